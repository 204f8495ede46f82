"""The tables of losses: means, the failures that a mean hides, and detection of structures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import mean_intervals
from pipeline.metrics.aggregate import COUNTS, summarize
from pipeline.records.metrics import metric_of
from pipeline.records.states import State
from pipeline.records.verdict import MetricSummary
from pipeline.report.formatting import number, percent
from pipeline.report.tables import (
    STATE_HEADINGS,
    Cell,
    Table,
    count_cell,
    failure_cell,
    loss_cell,
    metric_cell,
    state_cells,
    text_cell,
    value_cell,
)


@dataclass(frozen=True, slots=True)
class SummaryColumn:
    """A column beside the mean of a metric: its heading, and the cell for a summary of that metric."""

    heading: str
    cell: Callable[[MetricSummary], Cell]


def losses_table(evidence: Evidence, metrics: Sequence[str]) -> Table:
    """Return losses x metrics: mean ± sd over cases, with medians, failures, misses and collapsed runs beside it.

    The primary metric has columns for its median and, if it is a share, for the cases below 0.5. If structures were
    missed, the 95 % Hausdorff distance has columns for its mean where structures were found and for the share missed.
    """
    intervals = {name: mean_intervals(evidence.paired[name]) for name in metrics}
    counts = _state_counts(evidence)
    beside = {name: _columns_beside(evidence, metrics, name) for name in metrics}
    columns = ["loss"]
    for name in metrics:
        columns += [metric_of(name).heading, *(column.heading for column in beside[name])]
        columns += ["collapsed runs"] if name == metrics[0] else []
    columns += ["cases", *STATE_HEADINGS]
    table = Table(
        "Mean ± standard deviation over cases, with the 95 % interval of the mean beneath it. Missed, false positive, "
        "correct absence and no value count classes of cases, once for every seed. Collapsed runs count as failures; "
        "beneath them is the 95 % interval of the probability that a training collapses.",
        tuple(columns),
    )
    for loss in evidence.losses:
        result = evidence.verdict.result_of(loss)
        common = _common_cases(evidence, loss)
        cells = [loss_cell(loss)]
        for name in metrics:
            paired = evidence.paired[name]
            summary = result.metrics.get(name) if result is not None else None
            cells.append(
                _mean_cell(paired, loss, intervals[name], common)
                if loss in paired.losses
                else _set_aside_cell(summary, name)
            )
            cells += [value_cell(None) if summary is None else column.cell(summary) for column in beside[name]]
            cells += [_collapse_cell(evidence, loss)] if name == metrics[0] else []
        table.rows.append([*cells, count_cell(common), *state_cells(counts[loss])])
    return table


def _columns_beside(evidence: Evidence, metrics: Sequence[str], name: str) -> list[SummaryColumn]:
    """Return the columns beside the mean of a metric."""
    if metrics[0] != evidence.primary:
        return []
    summaries = [result.metrics for result in evidence.verdict.losses]
    columns = []
    if name == metrics[0]:
        columns.append(SummaryColumn("median", lambda summary: metric_cell(summary.median, name)))
        limits = (found[name].failure_below for found in summaries if name in found)
        limit = next((value for value in limits if value is not None), None)
        if limit is not None:
            columns.append(SummaryColumn(f"cases below {limit:g}", lambda summary: failure_cell(summary.failure_rate)))
    distances = [metric for metric in metrics if metric_of(metric).is_distance]
    distance = "hausdorff95_mm" if "hausdorff95_mm" in distances else next(iter(distances), None)
    if name == distance and any(found[name].miss_rate for found in summaries if name in found):
        columns.append(SummaryColumn("mean where found", lambda summary: metric_cell(summary.mean_of_hits, name)))
        columns.append(SummaryColumn("missed or false positive", lambda summary: failure_cell(summary.miss_rate)))
    return columns


def _collapse_cell(evidence: Evidence, loss: str) -> Cell:
    """Return how many finished runs of a loss collapsed, with the exact interval of that probability."""
    runs = [run for run in evidence.finished if run.key.loss == loss]
    collapsed = sum(run.state == State.COLLAPSED for run in runs)
    result = evidence.verdict.result_of(loss)
    collapse = None if result is None else result.collapse
    low, high = (None, None) if collapse is None else (collapse.ci_low, collapse.ci_high)
    below = "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"
    return value_cell(collapsed, f"{collapsed} of {len(runs)}", below, "warn" if collapsed else "")


def _common_cases(evidence: Evidence, loss: str) -> int:
    """Return the number of cases behind the loss's mean of the primary metric."""
    primary = evidence.paired.get(evidence.primary)
    return len(primary.cases) if primary is not None and loss in primary.losses else 0


def _mean_cell(paired: Paired, loss: str, intervals: NDArray[np.float64], common: int) -> Cell:
    """Return mean ± sd with its interval, and the number of cases if it is not the common one."""
    index = paired.losses.index(loss)
    values, means, metric = paired.values[index], paired.means, paired.metric
    mean, spread = float(means[index]), float(values.std(ddof=1)) if values.size > 1 else None
    best = means.max() if paired.higher_is_better else means.min()
    shown = number(mean, metric) + (f" ± {number(spread, metric)}" if spread is not None else "")
    low, high = (number(float(edge), metric) for edge in intervals[index])
    cases = "" if values.size == common else f", {values.size} cases"
    return value_cell(mean, shown, f"{low} to {high}{cases}", "best" if paired.info.rankable and mean == best else "")


def _set_aside_cell(summary: MetricSummary | None, metric: str) -> Cell:
    """Return the mean of a loss that takes no part in the comparison, over the cases that it has."""
    if summary is None:
        return value_cell(None, None, "0 cases", "aside")
    return value_cell(summary.mean, number(summary.mean, metric), f"{summary.cases} cases, set aside", "aside")


def _state_counts(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Return for each loss how many classes of cases, once for every seed, are in each state."""
    rows = evidence.rows[evidence.rows["metric"] == evidence.primary]
    counts = {loss: dict.fromkeys(COUNTS, 0) for loss in evidence.losses}
    for row in summarize(rows).to_dict("records") if len(rows) else ():
        for name in COUNTS:
            counts[str(row["loss"])][name] += int(row[name])
    return counts


def presence_table(evidence: Evidence) -> Table:
    """Return sensitivity and specificity by class and loss, of the classes that are absent from some case."""
    table = Table(
        "Sensitivity is the share of the cases with the structure in which the class was predicted at all. Specificity "
        "is the share of the cases without it in which it was not predicted. Each case counts once for every seed.",
        ("class", "loss", "sensitivity", "specificity"),
    )
    sometimes_absent = {item.class_name for item in evidence.verdict.presence if item.absent}
    table.rows.extend(
        [
            text_cell(item.class_name),
            loss_cell(item.loss),
            _rate_cell(item.sensitivity, item.detected, item.present),
            _rate_cell(item.specificity, item.correctly_absent, item.absent),
        ]
        for item in evidence.verdict.presence
        if item.class_name in sometimes_absent
    )
    return table


def _rate_cell(rate: float | None, part: int, whole: int) -> Cell:
    return value_cell(rate, percent(rate), f"{part} of {whole}", "warn" if rate is not None and rate < 1 else "")
