"""The tables of the report as plain rows: a cell has a text, a value to sort by, and at times a note or a color."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.bounds import possible
from pipeline.comparison.evidence import Evidence
from pipeline.comparison.pairing import Paired
from pipeline.metrics.aggregate import summarize
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Verdict
from pipeline.report.formatting import number, p_value, signed


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


STATES = (
    ("missed", "missed", True),
    ("false_positive", "false positive", True),
    ("correct_absence", "correct absence", False),
    ("undefined", "no value", True),
)
"""Counts of `summarize`, what they are called, and whether one is worth a warning."""


def state_cells(counts: Mapping[Any, Any]) -> list[Cell]:
    """Return a cell for each count of `STATES`."""
    return [
        value_cell(count := int(counts[name]), str(count), kind="warn" if bad and count else "")
        for name, _, bad in STATES
    ]


def class_tables(evidence: Evidence) -> list[tuple[str, Table]]:
    """Return for each metric a table of class x loss, with the counts behind each mean.

    Means are over the values; a collapsed run counts by what a failure costs, where that is known.
    """
    summary = summarize(_with_failures(evidence.table))
    columns = ("class", "loss", "mean ± sd", "median", "values", *(name for _, name, _ in STATES), "collapsed")
    found = []
    for metric, part in summary.groupby("metric", sort=False):
        name = str(metric)
        table = Table(f"{metric_of(name).heading} by class; each case once for every seed.", columns)
        for class_name, rows in part.groupby("class", sort=False):
            for row in rows.to_dict("records"):
                spread = row["std"]
                shown = number(row["mean"], name) + (f" ± {number(spread, name)}" if math.isfinite(spread) else "")
                defined, fallen = int(row["defined"]), int(row["collapsed"])
                table.rows.append(
                    [
                        Cell(str(class_name), str(class_name)),
                        loss_cell(str(row["loss"])),
                        value_cell(row["mean"], shown),
                        value_cell(row["median"], number(row["median"], name)),
                        value_cell(defined, str(defined)),
                        *state_cells(row),
                        value_cell(fallen, str(fallen), kind="warn" if fallen else ""),
                    ]
                )
        found.append((metric_of(name).heading, table))
    return found


def _with_failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the worst value of a metric for collapsed runs that were recorded without values."""
    worst = table["metric"].map({name: metric_of(str(name)).worst for name in table["metric"].unique()})
    fallen = (table["state"] == "collapsed") & table["value"].isna()
    return table.assign(value=table["value"].where(~fallen, worst.astype("float64")))


def size_table(evidence: Evidence) -> Table:
    """Return the primary metric by size of structure, with the counts behind each mean."""
    columns = ("size", "loss", "mean ± sd", "values", "structures", "missed", "false positive")
    table = Table(
        f"{metric_of(evidence.primary).heading} by volume of the structure in the reference; a value for every seed.",
        columns,
    )
    for row in evidence.verdict.by_size:
        if row.metric == evidence.primary:
            shown = number(row.mean, evidence.primary)
            shown += "" if row.sd is None else f" ± {number(row.sd, evidence.primary)}"
            counts = [
                value_cell(count, str(count), kind="warn" if count else "")
                for count in (row.missed, row.false_positive)
            ]
            table.rows.append(
                [
                    Cell(row.size, row.size),
                    loss_cell(row.loss),
                    value_cell(row.mean, shown),
                    value_cell(row.defined, str(row.defined)),
                    value_cell(row.structures, str(row.structures)),
                    *counts,
                ]
            )
    return table


def ranks_table(verdict: Verdict) -> Table:
    """Return ranks averaged over metrics by each way of ranking; 1 is best."""
    ranks = verdict.ranking_over_metrics
    names = ("by means", "by cases", "by clear differences")
    metrics = ", ".join(metric_of(name).heading for name in ranks.metrics)
    table = Table(f"Ranks (1 is best) averaged over {metrics}.", ("loss", *names))
    each = zip(ranks.losses, ranks.mean_then_rank, ranks.rank_then_mean, ranks.test_based, strict=True)
    for loss, *places in each:
        table.rows.append([loss_cell(loss), *(value_cell(rank, f"{rank:.2f}") for rank in places)])
    return table


def pairs_table(verdict: Verdict) -> Table:
    """Return every pair of losses in every metric."""
    columns = (
        "metric",
        "first",
        "second",
        "mean difference",
        "95 % interval",
        "p (corrected)",
        "median difference",
        "cases",
        "effect size dz",
        "first better in",
        "says",
    )
    table = Table(
        "First minus second, paired by case. Interval and p belong to the same t test of the mean difference, which "
        "holds the noise of patients and of trainings; p is corrected for all pairs of a metric (Holm).",
        columns,
    )
    for pair in verdict.pairs:
        metric, scaled = pair.metric, metric_of(pair.metric).factor
        mean = scaled * pair.difference
        low, high = (scaled * edge for edge in possible(metric, pair.ci_low, pair.ci_high))
        superiority = pair.superiority
        if superiority is not None and not metric_of(metric).higher_is_better:
            superiority = 1 - superiority
        table.rows.append(
            [
                Cell(metric_of(metric).heading, metric),
                loss_cell(pair.a),
                loss_cell(pair.b),
                value_cell(mean, f"{signed(mean)} {metric_of(metric).displayed_unit}"),
                value_cell(low, f"{signed(low)} to {signed(high)}"),
                value_cell(pair.p_holm, p_value(pair.p_holm if pair.replicated else None)),
                value_cell(
                    typical := scaled * pair.median_difference, f"{signed(typical)} {metric_of(metric).displayed_unit}"
                ),
                value_cell(pair.cases, str(pair.cases)),
                value_cell(pair.cohen_dz, signed(pair.cohen_dz)),
                value_cell(superiority, "–" if superiority is None else f"{superiority:.0%} of cases"),
                Cell(_conclusion(pair), _conclusion(pair), kind="warn" if pair.typical_case_disagrees else ""),
            ]
        )
    return table


def _conclusion(pair: PairResult) -> str:
    if pair.typical_case_disagrees:
        return "mean and typical case disagree"
    if not pair.replicated:
        return "trained once: no verdict"
    if pair.better:
        return f"{pair.better} is better" + (", within the margin" if pair.equivalent else "")
    return "equivalent" if pair.equivalent else "cannot tell"


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
    metric, scaled = paired.metric, metric_of(paired.metric).factor
    table = Table("", ("", "case", first, second, f"gap, {metric_of(metric).displayed_unit}"))
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
    said += f"Mean difference {signed(scaled * float(each.mean()))} {metric_of(metric).displayed_unit}"
    if rest.size and order.size:
        turned = np.sign(rest.mean()) != np.sign(each.mean()) and rest.mean() != 0
        said += f", without these {order.size} cases {signed(scaled * float(rest.mean()))} {metric_of(metric).displayed_unit}"
        said += ": they decide its sign." if turned else "."
    else:
        said += "."
    return Deciders(first, second, metric, table, tuple(paired.cases[i] for i in order), said)


def _better(each: Any, paired: Paired) -> int:
    return int((each > 0).sum() if paired.higher_is_better else (each < 0).sum())
