"""The tables of the report as plain rows: a cell has a text, a value to sort by, and at times a note or a colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.limits import possible
from pipeline.comparison.pairing import HIGHER_IS_BETTER, Paired
from pipeline.metrics.aggregate import summarise
from pipeline.report.curves import diagnose
from pipeline.report.evidence import Evidence, mean_intervals
from pipeline.report.wording import duration, factor, metric_name, number, p_value, signed, unit


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, what is sorted by, a second line, the loss it names."""

    text: str
    sort: str = ""
    below: str = ""
    loss: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows; `numeric` columns are aligned right."""

    caption: str
    columns: tuple[str, ...]
    rows: list[list[Cell]] = field(default_factory=list)


def loss_cell(loss: str) -> Cell:
    """Return the cell that names a loss."""
    return Cell(loss, sort=loss, loss=loss)


def value_cell(value: float | None, shown: str | None = None, below: str = "", kind: str = "") -> Cell:
    """Return a number; one that is undefined sorts last."""
    defined = value is not None and math.isfinite(value)
    return Cell((number(value) if shown is None else shown), f"{value:.9g}" if defined else "", below, "", f"n {kind}")


def losses_table(evidence: Evidence, metrics: Sequence[str]) -> Table:
    """Return losses x metrics: mean ± sd over cases, interval of the mean, and the counts behind them."""
    intervals = {name: mean_intervals(evidence.paired[name]) for name in metrics}
    counts = _counts(evidence)
    columns = ("loss", *map(metric_name, metrics), "cases", "missed", "false positive", "correct absence", "collapsed")
    table = Table("Mean ± standard deviation over cases; beneath it the 95 % interval of the mean.", columns)
    for loss in evidence.losses:
        cells = [loss_cell(loss)]
        for name in metrics:
            item = evidence.paired[name]
            known = loss in item.losses
            cells.append(_mean_cell(item, loss, intervals[name]) if known else _aside_cell(evidence, loss, name))
        primary = evidence.paired.get(evidence.primary)
        present = len(primary.cases) if primary is not None and loss in primary.losses else 0
        cells.append(value_cell(present, str(present)))
        cells += [
            value_cell(
                counts[loss][state], str(counts[loss][state]), kind="warn" if bad and counts[loss][state] else ""
            )
            for state, bad in (("missed", True), ("false_positive", True), ("correct_absence", False))
        ]
        fallen = sum(run.state == "collapsed" for run in evidence.runs if run.key.loss == loss)
        cells.append(value_cell(fallen, f"{fallen} runs" if fallen else "0", kind="warn" if fallen else ""))
        table.rows.append(cells)
    return table


def _mean_cell(item: Paired, loss: str, intervals: Any) -> Cell:
    index = item.losses.index(loss)
    values = item.values[index]
    mean, spread = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else None
    best = item.means.max() if item.higher_is_better else item.means.min()
    shown = number(mean, item.metric) + (f" ± {number(spread, item.metric)}" if spread is not None else "")
    low, high = (number(float(edge), item.metric) for edge in intervals[index])
    judged = item.higher_is_better or item.metric not in ("volume_error", "volume_error_ml")
    return value_cell(mean, shown, f"{low} to {high}", "best" if judged and mean == best else "")


def _aside_cell(evidence: Evidence, loss: str, metric: str) -> Cell:
    """Return the mean of a loss that takes no part in the comparison, over the cases that it has."""
    entry: dict[str, Any] = next((entry for entry in evidence.verdict["losses"] if entry["name"] == loss), {})
    found = entry.get("metrics", {}).get(metric)
    if not found or found.get("cases") is None:
        return value_cell(None)
    return value_cell(found["mean"], number(found["mean"], metric), f"{found['cases']} cases, set aside")


def _counts(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Return how many class-of-case entries of each state stand behind the means of each loss."""
    rows = evidence.rows[evidence.rows["metric"] == evidence.primary]
    states = ("missed", "false_positive", "correct_absence")
    counted = rows.groupby(["loss", "state"]).size() if len(rows) else pd.Series(dtype=int)
    return {loss: {state: int(counted.get((loss, state), 0)) for state in states} for loss in evidence.losses}


def class_tables(evidence: Evidence) -> list[tuple[str, Table]]:
    """Return for each metric a table of class x loss, with the counts behind each mean."""
    summary = summarise(evidence.table)
    columns = (
        "class",
        "loss",
        "mean ± sd",
        "median",
        "cases",
        "missed",
        "false positive",
        "correct absence",
        "collapsed",
    )
    found = []
    for metric, part in summary.groupby("metric", sort=False):
        name = str(metric)
        table = Table(f"{metric_name(name)} by class; each case once for every seed.", columns)
        for class_name, rows in part.groupby("class", sort=False):
            for row in rows.to_dict("records"):
                spread = row["std"]
                shown = number(row["mean"], name) + (f" ± {number(spread, name)}" if math.isfinite(spread) else "")
                counts = [
                    value_cell(int(row[state]), str(int(row[state])), kind="warn" if bad and row[state] else "")
                    for state, bad in (
                        ("defined", False),
                        ("missed", True),
                        ("false_positive", True),
                        ("correct_absence", False),
                        ("collapsed", True),
                    )
                ]
                table.rows.append(
                    [
                        Cell(str(class_name), str(class_name)),
                        loss_cell(str(row["loss"])),
                        value_cell(row["mean"], shown),
                        value_cell(row["median"], number(row["median"], name)),
                        *counts,
                    ]
                )
        found.append((metric_name(name), table))
    return found


def size_table(evidence: Evidence) -> Table:
    """Return the primary metric by size of structure, with the counts behind each mean."""
    columns = ("size", "loss", "mean ± sd", "structures", "missed", "false positive")
    table = Table(f"{metric_name(evidence.primary)} by volume of the structure in the reference.", columns)
    for row in evidence.verdict.get("by_size", []):
        if row["metric"] == evidence.primary:
            shown = number(row["mean"]) + ("" if row["sd"] is None else f" ± {number(row['sd'])}")
            counts = [
                value_cell(row[state], str(row[state]), kind="warn" if row[state] else "")
                for state in ("missed", "false_positive")
            ]
            table.rows.append(
                [
                    Cell(str(row["size"]), str(row["size"])),
                    loss_cell(str(row["loss"])),
                    value_cell(row["mean"], shown),
                    value_cell(row["structures"], str(row["structures"])),
                    *counts,
                ]
            )
    return table


def ranks_table(verdict: Mapping[str, Any]) -> Table:
    """Return ranks averaged over metrics by each way of ranking; 1 is best."""
    found = verdict.get("ranking_over_metrics") or {"losses": [], "metrics": []}
    ways = ("mean_then_rank", "rank_then_mean", "test_based")
    names = ("by means", "by cases", "by clear differences")
    metrics = ", ".join(metric_name(name) for name in found["metrics"])
    table = Table(f"Ranks (1 is best) averaged over {metrics}.", ("loss", *names))
    for index, loss in enumerate(found["losses"]):
        ranks = [found[way][index] for way in ways]
        table.rows.append([loss_cell(loss), *(value_cell(rank, f"{rank:.2f}") for rank in ranks)])
    return table


def pairs_table(verdict: Mapping[str, Any]) -> Table:
    """Return every pair of losses in every metric."""
    columns = (
        "metric",
        "first",
        "second",
        "difference",
        "95 % interval",
        "p (Holm)",
        "effect size dz",
        "first better in",
        "says",
    )
    table = Table("First minus second, paired by case.", columns)
    for entry in verdict["pairs"]:
        metric, scaled = entry["metric"], factor(entry["metric"])
        mean = scaled * entry["difference"]
        low, high = (scaled * edge for edge in possible(metric, entry["ci_low"], entry["ci_high"]))
        superiority = entry.get("superiority")
        if superiority is not None and metric not in HIGHER_IS_BETTER:
            superiority = 1 - superiority
        table.rows.append(
            [
                Cell(metric_name(metric), metric),
                loss_cell(entry["a"]),
                loss_cell(entry["b"]),
                value_cell(mean, f"{signed(mean)} {unit(metric)}"),
                value_cell(low, f"{signed(low)} to {signed(high)}"),
                value_cell(entry.get("p_holm"), p_value(entry.get("p_holm"))),
                value_cell(entry.get("cohen_dz"), signed(entry.get("cohen_dz"))),
                value_cell(superiority, "–" if superiority is None else f"{superiority:.0%} of cases"),
                Cell(_says(entry), _says(entry)),
            ]
        )
    return table


def _says(entry: Mapping[str, Any]) -> str:
    better = entry.get("better")
    if better:
        return f"{better} is better" + (", within the margin" if entry["equivalent"] else "")
    return "equivalent" if entry["equivalent"] else "cannot tell"


@dataclass(frozen=True, slots=True)
class Deciders:
    """The cases that weigh most in the difference of two losses, and the difference without them."""

    first: str
    second: str
    metric: str
    table: Table
    cases: tuple[str, ...]
    sentence: str


def deciding_cases(paired: Paired, first: str, second: str, count: int = 5) -> Deciders:
    """Return the cases with the largest difference between two losses."""
    a, b = (paired.values[paired.losses.index(name)] for name in (first, second))
    each = a - b
    order = np.argsort(-np.abs(each), kind="stable")[:count]
    order = order[np.abs(each[order]) > 0]
    rest = np.delete(each, order)
    metric, scaled = paired.metric, factor(paired.metric)
    table = Table("", ("", "case", first, second, f"gap, {unit(metric)}"))
    for rank, index in enumerate(order, start=1):
        table.rows.append(
            [
                Cell(str(rank), str(rank)),
                Cell(paired.cases[index], paired.cases[index]),
                value_cell(float(a[index]), number(float(a[index]), metric)),
                value_cell(float(b[index]), number(float(b[index]), metric)),
                value_cell(scaled * float(each[index]), signed(scaled * float(each[index]))),
            ]
        )
    equal = int((each == 0).sum())
    said = (
        f"{first} is better in {_better(each, paired)} of {each.size} cases{f', equal in {equal}' if equal else ''}. "
    )
    said += f"Mean difference {signed(scaled * float(each.mean()))} {unit(metric)}"
    if rest.size and order.size:
        turned = np.sign(rest.mean()) != np.sign(each.mean()) and rest.mean() != 0
        said += f", without these {order.size} cases {signed(scaled * float(rest.mean()))} {unit(metric)}"
        said += ": they decide its sign." if turned else "."
    else:
        said += "."
    return Deciders(first, second, metric, table, tuple(paired.cases[i] for i in order), said)


def _better(each: Any, paired: Paired) -> int:
    return int((each > 0).sum() if paired.higher_is_better else (each < 0).sum())


def diagnostics_table(evidence: Evidence) -> Table:
    """Return what the learning curves of each loss say in numbers."""
    columns = (
        "loss",
        "learning rates chosen",
        "gradient norm",
        "largest spike",
        "gradient on foreground",
        "agreement of batches",
        "roughness of training loss",
        "training loss ~ validation Dice",
    )
    table = Table("Medians over the runs of a loss.", columns)
    for loss in evidence.losses:
        found = diagnose([run for run in evidence.runs if run.key.loss == loss])
        rates = ", ".join(f"{rate:g}" for rate in found.learning_rates) or "–"
        table.rows.append(
            [
                loss_cell(loss),
                Cell(rates, rates),
                value_cell(found.gradient_norm),
                value_cell(found.spike, "–" if found.spike is None else f"{found.spike:.1f} × median"),
                value_cell(found.foreground_share, _percent(found.foreground_share, 0)),
                value_cell(found.agreement, signed(found.agreement)),
                value_cell(found.roughness, "–" if found.roughness is None else f"{found.roughness:.1f} % of its fall"),
                value_cell(found.correlation, signed(found.correlation)),
            ]
        )
    return table


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def fairness_table(evidence: Evidence) -> tuple[Table, bool | None]:
    """Return for each fold and seed whether all losses began with the same weights and were fed the same patches.

    The second value is whether this holds everywhere, None where no fold and seed has two runs to compare.
    """
    table = Table("", ("fold", "seed", "losses", "initial weights", "feed", "same for all losses"))
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for run in evidence.finished:
        if not (run.record or {}).get("control"):
            groups.setdefault((run.key.fold, run.key.seed), []).append(run.record or {})
    verdicts = []
    for (fold, seed), records in sorted(groups.items()):
        weights = {str(r["initial_weights_hash"]) for r in records if r.get("initial_weights_hash")}
        feeds = [str(r["feed_hash"]) for r in records if r.get("feed_hash")]
        same = len(weights) == 1 and len(set(feeds)) == 1 if len(feeds) > 1 else None
        if same is not None:
            verdicts.append(same)
        said = {True: "✓ equal", False: "✗ they differ", None: "– one run only"}[same]
        table.rows.append(
            [
                value_cell(fold, str(fold)),
                value_cell(seed, str(seed)),
                value_cell(len(records), str(len(records))),
                Cell(", ".join(sorted(value[:12] for value in weights)) or "–", kind="code"),
                Cell(", ".join(sorted({value[:12] for value in feeds})) or "–", kind="code"),
                Cell(said, said, kind="warn" if same is False else ""),
            ]
        )
    return table, all(verdicts) if verdicts else None


def runs_table(evidence: Evidence) -> Table:
    """Return every run of the plan with its state and what it cost."""
    columns = (
        "loss",
        "fold",
        "seed",
        "state",
        "mean Dice",
        "learning rate",
        "steps",
        "precision",
        "training",
        "in all",
    )
    table = Table("Every run of the plan.", columns)
    for run in evidence.runs:
        record = run.record or {}
        why = record.get("why") or "; ".join(record.get("notes") or [])
        rate = record.get("learning_rate")
        table.rows.append(
            [
                loss_cell(run.key.loss),
                value_cell(run.key.fold, str(run.key.fold)),
                value_cell(run.key.seed, str(run.key.seed)),
                Cell(run.state, run.state, str(why or ""), kind="" if run.state == "ok" else "warn"),
                value_cell(record.get("mean_dice")),
                value_cell(rate, "–" if rate is None else f"{rate:g}"),
                value_cell(record.get("steps"), str(record.get("steps", "–"))),
                Cell(str(record.get("precision", "–"))),
                value_cell(record.get("training_seconds"), duration(record.get("training_seconds"))),
                value_cell(record.get("seconds"), duration(record.get("seconds"))),
            ]
        )
    return table


def compute_table(evidence: Evidence) -> Table:
    """Return the time that each loss took."""
    table = Table("", ("loss", "runs", "training in all", "a run (median)", "ms a step (median)", "in all"))
    for loss in evidence.losses:
        records = [run.record or {} for run in evidence.finished if run.key.loss == loss]
        training = [float(r["training_seconds"]) for r in records if r.get("training_seconds") is not None]
        steps = [
            1000 * float(r["training_seconds"]) / r["steps"]
            for r in records
            if r.get("training_seconds") is not None and r.get("steps")
        ]
        whole = [float(r["seconds"]) for r in records if r.get("seconds") is not None]
        table.rows.append(
            [
                loss_cell(loss),
                value_cell(len(records), str(len(records))),
                _seconds_cell(sum(training) if training else None),
                _seconds_cell(_median(whole)),
                value_cell(_median(steps), "–" if not steps else f"{_median(steps):.0f}"),
                _seconds_cell(sum(whole) if whole else None),
            ]
        )
    return table


def _seconds_cell(value: float | None) -> Cell:
    return value_cell(value, duration(value))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
