"""The table of losses: means, what they hide, and whether structures are found where they are."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import mean_intervals
from pipeline.metrics.aggregate import summarize
from pipeline.records.metrics import metric_of
from pipeline.records.verdict import MetricSummary
from pipeline.report.formatting import number
from pipeline.report.tables import STATES, Cell, Table, loss_cell, state_cells, value_cell


def losses_table(evidence: Evidence, metrics: Sequence[str]) -> Table:
    """Return losses x metrics: mean ± sd over cases, and what a mean hides: median, failures, misses, collapse.

    The first metric has columns for its median and, if it is a share, for the cases below 0.5. Where structures were
    missed, the first distance has columns for its mean among the structures found and for the share missed.
    """
    intervals = {name: mean_intervals(evidence.paired[name]) for name in metrics}
    counts = _counts(evidence)
    further = _further_columns(evidence, metrics)
    columns = ["loss"]
    for name in metrics:
        columns += [metric_of(name).heading, *(heading for heading, _, _ in further.get(name, ()))]
        columns += ["collapsed runs"] if name == metrics[0] else []
    columns += ["cases", *(name for _, name, _ in STATES)]
    table = Table(
        "Mean ± standard deviation over cases; beneath it the 95 % interval of the mean. Missed, false positive, "
        "correct absence and no value count classes of cases, once for every seed. Collapsed runs count as failures; "
        "beneath them the 95 % interval of the probability that a training collapses.",
        tuple(columns),
    )
    for loss in evidence.losses:
        result = evidence.verdict.result_of(loss)
        common = _common_cases(evidence, loss)
        cells = [loss_cell(loss)]
        for name in metrics:
            item = evidence.paired[name]
            if loss in item.losses:
                cells.append(_mean_cell(item, loss, intervals[name], common))
            else:
                cells.append(_aside_cell(evidence, loss, name))
            summary = result.metrics.get(name) if result is not None else None
            cells += [
                cell(None if summary is None else value(summary), name) for _, value, cell in further.get(name, ())
            ]
            cells += [_collapse_cell(evidence, loss)] if name == metrics[0] else []
        cells.append(value_cell(common, str(common)))
        cells += state_cells(counts[loss])
        table.rows.append(cells)
    return table


FurtherColumn = tuple[str, Callable[[MetricSummary], float | None], Callable[[float | None, str], Cell]]
"""Heading, value of a summary, and the cell that shows it."""


def _further_columns(evidence: Evidence, metrics: Sequence[str]) -> dict[str, list[FurtherColumn]]:
    """Return the columns beside the mean of a metric."""
    if not metrics or metrics[0] != evidence.primary:
        return {}
    further: dict[str, list[FurtherColumn]] = {metrics[0]: [("median", lambda summary: summary.median, _number_cell)]}
    summaries = [result.metrics for result in evidence.verdict.losses]
    first = [found[metrics[0]].failure_below for found in summaries if metrics[0] in found]
    below = next((value for value in first if value is not None), None)
    if below is not None:
        further[metrics[0]].append((f"cases below {below:g}", lambda summary: summary.failure_rate, _share_cell))
    distances = [name for name in metrics if metric_of(name).is_distance]
    distance = "hausdorff95_mm" if "hausdorff95_mm" in distances else next(iter(distances), None)
    if distance is not None and any(found[distance].miss_rate for found in summaries if distance in found):
        of_hits = further.setdefault(distance, [])
        of_hits += [
            ("of those found", lambda summary: summary.mean_of_hits, _number_cell),
            ("missed or false positive", lambda summary: summary.miss_rate, _share_cell),
        ]
    return further


def _number_cell(value: float | None, metric: str) -> Cell:
    return value_cell(value, number(value, metric))


def _share_cell(value: float | None, metric: str = "") -> Cell:
    """Return a share of failures in percent; one that is not 0 is worth a warning."""
    return value_cell(value, "–" if value is None else f"{100 * value:.0f} %", kind="warn" if value else "")


def _collapse_cell(evidence: Evidence, loss: str) -> Cell:
    """Return how many finished runs of a loss collapsed, with the exact interval of that probability."""
    runs = [run for run in evidence.runs if run.key.loss == loss and run.record is not None]
    fallen = sum(run.state == "collapsed" for run in runs)
    result = evidence.verdict.result_of(loss)
    collapse = None if result is None else result.collapse
    low, high = (None, None) if collapse is None else (collapse.ci_low, collapse.ci_high)
    below = "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"
    return value_cell(fallen, f"{fallen} of {len(runs)}", below, "warn" if fallen else "")


def _common_cases(evidence: Evidence, loss: str) -> int:
    """Return the cases behind the loss's mean of the primary metric."""
    primary = evidence.paired.get(evidence.primary)
    return len(primary.cases) if primary is not None and loss in primary.losses else 0


def _mean_cell(item: Paired, loss: str, intervals: Any, common: int) -> Cell:
    index = item.losses.index(loss)
    values, means = item.values[index], item.means
    mean, spread = float(means[index]), float(values.std(ddof=1)) if values.size > 1 else None
    best = means.max() if item.higher_is_better else means.min()
    shown = number(mean, item.metric) + (f" ± {number(spread, item.metric)}" if spread is not None else "")
    low, high = (number(float(edge), item.metric) for edge in intervals[index])
    over = "" if values.size == common else f", {values.size} cases"
    return value_cell(mean, shown, f"{low} to {high}{over}", "best" if item.info.rankable and mean == best else "")


def _aside_cell(evidence: Evidence, loss: str, metric: str) -> Cell:
    """Return the mean of a loss that takes no part in the comparison, over the cases that it has."""
    result = evidence.verdict.result_of(loss)
    summary = result.metrics.get(metric) if result is not None else None
    if summary is None:
        return value_cell(None, None, "0 cases", "aside")
    return value_cell(summary.mean, number(summary.mean, metric), f"{summary.cases} cases, set aside", "aside")


def _counts(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Return how many class-of-case entries of each state stand behind the means of each loss."""
    rows = evidence.rows[evidence.rows["metric"] == evidence.primary]
    counts = {loss: dict.fromkeys((name for name, _, _ in STATES), 0) for loss in evidence.losses}
    for row in summarize(rows).to_dict("records") if len(rows) else ():
        for name in counts[str(row["loss"])]:
            counts[str(row["loss"])][name] += int(row[name])
    return counts


def presence_table(evidence: Evidence) -> Table:
    """Return sensitivity and specificity by class and loss; no rows where every case shows every structure."""
    table = Table(
        "Sensitivity: share of the cases with the structure in which the class was predicted at all. Specificity: "
        "share of the cases without it in which it was not. Each case counts once for every seed.",
        ("class", "loss", "sensitivity", "specificity"),
    )
    sometimes_absent = {item.class_name for item in evidence.verdict.presence if item.absent}
    for item in evidence.verdict.presence:
        if item.class_name in sometimes_absent:
            table.rows.append(
                [
                    Cell(item.class_name, item.class_name),
                    loss_cell(item.loss),
                    _rate_cell(item.sensitivity, item.detected, item.present),
                    _rate_cell(item.specificity, item.correctly_absent, item.absent),
                ]
            )
    return table


def _rate_cell(rate: float | None, part: float, whole: float) -> Cell:
    shown = "–" if rate is None else f"{100 * rate:.0f} %"
    return value_cell(rate, shown, f"{part:.0f} of {whole:.0f}", "warn" if rate is not None and rate < 1 else "")
