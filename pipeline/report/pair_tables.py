"""The tables of pairs of losses: all differences, and the cases that decide one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.pairing import Paired
from pipeline.records.metrics import Metric, metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Verdict
from pipeline.report.formatting import NO_VALUE, p_value, percent, signed
from pipeline.report.tables import Cell, Table, count_cell, loss_cell, metric_cell, text_cell, value_cell

DECIDING_CASES = 5


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
        "conclusion",
    )
    caption = (
        "First minus second, paired by case. Interval and p come from the same t test of the mean difference, which "
        "includes the noise between patients and between trainings; p is corrected for all pairs of a metric (Holm). "
        "Effect size dz is the mean difference divided by the standard deviation of the differences."
    )
    return Table(caption, columns, [_pair_row(pair) for pair in verdict.pairs])


def _pair_row(pair: PairResult) -> list[Cell]:
    metric = metric_of(pair.metric)
    low, high = (metric.factor * edge for edge in metric_of(pair.metric).possible_interval(pair.ci_low, pair.ci_high))
    superiority = pair.superiority
    if superiority is not None and not metric.higher_is_better:
        superiority = 1 - superiority
    return [
        Cell(metric.heading, pair.metric),
        loss_cell(pair.a),
        loss_cell(pair.b),
        _difference_cell(pair.difference, metric),
        value_cell(low, f"{signed(low)} to {signed(high)}"),
        value_cell(pair.p_holm, p_value(pair.p_holm if pair.replicated else None)),
        _difference_cell(pair.median_difference, metric),
        count_cell(pair.cases),
        value_cell(pair.cohen_dz, signed(pair.cohen_dz)),
        value_cell(superiority, NO_VALUE if superiority is None else f"{percent(superiority)} of cases"),
        text_cell(conclusion(pair), kind="warn" if pair.typical_case_disagrees else ""),
    ]


def _difference_cell(difference: float, metric: Metric) -> Cell:
    shown = metric.factor * difference
    return value_cell(shown, f"{signed(shown)} {metric.displayed_unit}".rstrip())


def conclusion(pair: PairResult) -> str:
    """Return what a pair shows, in a few words."""
    if pair.typical_case_disagrees:
        return "mean and typical case disagree"
    if not pair.replicated:
        return "trained once: no verdict"
    if pair.better:
        return f"{pair.better} is better" + (", within the margin" if pair.equivalent else "")
    return "equivalent" if pair.equivalent else "inconclusive"


@dataclass(frozen=True, slots=True)
class DecidingCases:
    """The cases with the largest difference between two losses, and the mean difference with and without them."""

    cases: tuple[str, ...]
    table: Table
    sentence: str


def deciding_cases(paired: Paired, first: str, second: str, count: int = DECIDING_CASES) -> DecidingCases:
    """Return the cases that contribute most to the difference of two losses, the largest difference first."""
    a, b = (paired.values[paired.losses.index(name)] for name in (first, second))
    differences = a - b
    order = np.argsort(-np.abs(differences), kind="stable")[:count]
    order = order[np.abs(differences[order]) > 0]
    metric = metric_of(paired.metric)
    table = Table("", ("rank", "case", first, second, f"difference, {metric.displayed_unit}"))
    for rank, index in enumerate(order, start=1):
        difference = metric.factor * float(differences[index])
        table.rows.append(
            [
                Cell(str(rank), str(rank)),
                text_cell(paired.cases[index]),
                metric_cell(float(a[index]), metric.name),
                metric_cell(float(b[index]), metric.name),
                value_cell(difference, signed(difference)),
            ]
        )
    better = int((differences > 0).sum() if paired.higher_is_better else (differences < 0).sum())
    equal = int((differences == 0).sum())
    sentence = f"{first} is better in {better} of {differences.size} cases{f', equal in {equal}' if equal else ''}. "
    sentence += _influence(differences.tolist(), np.delete(differences, order).tolist(), metric)
    return DecidingCases(tuple(paired.cases[i] for i in order), table, sentence)


def _influence(differences: Sequence[float], others: Sequence[float], metric: Metric) -> str:
    """Return the mean difference of all cases, and of the others alone."""
    mean = float(np.mean(differences))
    shown = f"Mean difference {signed(metric.factor * mean)} {metric.displayed_unit}"
    removed = len(differences) - len(others)
    if not others or not removed:
        return f"{shown}."
    rest = float(np.mean(others))
    shown += f", without these {removed} cases {signed(metric.factor * rest)} {metric.displayed_unit}"
    return f"{shown}: they decide its sign." if np.sign(rest) != np.sign(mean) and rest else f"{shown}."
