"""Repeat the comparison within each class and each group of sizes, and find contradictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import compare_pairs
from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.sizes import size_groups
from pipeline.records.events import StateCounts
from pipeline.records.pair_result import pair_of
from pipeline.records.verdict import ClassMeans, Part, PartDifference, SizeMeans

PartRows = tuple[Part, str, pd.DataFrame]
"""Kind of a part, its name, and its rows of the long table."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """Contradiction between a part of the data and the whole.

    Attributes
    ----------
    kind
        Kind of the parts: classes, sizes, or the cases for which each loss has results.
    metric
        Metric of the contradiction.
    better, worse
        Loss with the better mean in these parts, and loss with the better mean over all.
    where
        Names of the parts.
    every
        True if all parts contradict the whole; otherwise, some of them do so clearly.
    """

    kind: Literal["class", "size", "cases"]
    metric: str
    better: str
    worse: str
    where: tuple[str, ...]
    every: bool


@dataclass(frozen=True, slots=True)
class _PartMean:
    """Mean, standard deviation and counts of one loss by one metric within a part."""

    metric: str
    part: str
    loss: str
    mean: float | None
    sd: float | None
    defined: int
    counts: StateCounts


def parts_of(rows: pd.DataFrame) -> list[PartRows]:
    """Return the rows of each class and each group of sizes; a single class is no part."""
    classes = list(dict.fromkeys(rows["class"]))
    parts: list[PartRows] = []
    if len(classes) > 1:
        parts += [("class", name, rows[rows["class"] == name]) for name in classes]
    parts += [("size", name, part) for name, part in size_groups(rows).items()]
    return parts


def within_parts(
    parts: Sequence[PartRows],
    metric: str,
    losses: Sequence[str],
    best: str,
    settings: ComparisonSettings,
) -> list[PartDifference]:
    """Return the difference between the best loss and each other loss in each part.

    Parameters
    ----------
    parts
        From `parts_of`.
    metric, losses
        Metric and losses to compare.
    best
        The loss with which the others are compared.
    settings
        Confidence, and the value of a miss. Holm's correction is applied within each part.
    """
    differences = []
    for kind, name, rows in parts:
        paired = pair(rows, metric, losses, settings.miss_value)
        if paired is None or best not in paired.losses:
            continue
        compared = compare_pairs(paired, None, settings.confidence)
        first = paired.losses.index(best)
        for index, other in enumerate(paired.losses):
            if other == best:
                continue
            mean = float(paired.means[first] - paired.means[index])
            result = pair_of(compared.pairs, best, other)
            differences.append(
                PartDifference(
                    kind=kind,
                    part=name,
                    metric=metric,
                    a=best,
                    b=other,
                    cases=len(paired.cases),
                    difference=mean,
                    ci_low=None if result is None else result.ci_low,
                    ci_high=None if result is None else result.ci_high,
                    ahead=best if (mean > 0) == paired.higher_is_better else other,
                    clear=result is not None and result.better is not None,
                )
            )
    return differences


def reversals(differences: Sequence[PartDifference], best: str) -> list[Reversal]:
    """Return the losses that are ahead of the best loss in all parts of a kind, or clearly better in some.

    `differences` are those of one metric. A difference of exactly 0 is no evidence for either loss and is ignored.
    """
    contradictions = []
    groups: dict[tuple[Part, str], list[PartDifference]] = {}
    for difference in differences:
        if difference.difference != 0:
            groups.setdefault((difference.kind, difference.b), []).append(difference)
    for (kind, other), parts in groups.items():
        ahead = [part for part in parts if part.ahead == other]
        clear = [part for part in ahead if part.clear]
        every = len(parts) > 1 and len(ahead) == len(parts)
        if every or clear:
            where = tuple(part.part for part in (parts if every else clear))
            contradictions.append(Reversal(kind, parts[0].metric, other, best, where, every))
    return contradictions


def reversals_of_plain_means(rows: pd.DataFrame, paired: Paired) -> list[Reversal]:
    """Return pairs whose means over all cases of each loss contradict those over the cases that all losses share."""
    metric = paired.metric
    one = rows[(rows["metric"] == metric) & rows["loss"].isin(paired.losses)]
    if one.groupby("loss")["case"].nunique().nunique() < 2 and one["case"].nunique() == len(paired.cases):
        return []
    plain = one.groupby(["loss", "case"])["value"].mean().groupby("loss").mean().reindex(list(paired.losses))
    sign = 1 if paired.higher_is_better else -1
    contradictions = []
    for i, a in enumerate(paired.losses):
        for j, b in enumerate(paired.losses):
            ahead = sign * float(plain.iloc[i] - plain.iloc[j]) > 0
            if ahead and sign * (paired.means[i] - paired.means[j]) < 0:
                contradictions.append(Reversal("cases", metric, a, b, (), True))
    return contradictions


def means_by_class(rows: pd.DataFrame, metrics: Sequence[str]) -> list[ClassMeans]:
    """Return mean, standard deviation and counts of states for each metric, class and loss."""
    return [
        ClassMeans(
            metric=item.metric,
            class_name=item.part,
            loss=item.loss,
            mean=item.mean,
            sd=item.sd,
            defined=item.defined,
            correct_absence=item.counts.correct_absence,
            missed=item.counts.missed,
            false_positive=item.counts.false_positive,
        )
        for item in _means_of(rows, metrics, "class")
    ]


def means_by_size(parts: Sequence[PartRows], metrics: Sequence[str]) -> list[SizeMeans]:
    """Return mean, standard deviation and counts of states for each metric, group of sizes and loss."""
    return [
        SizeMeans(
            metric=item.metric,
            size=size,
            loss=item.loss,
            mean=item.mean,
            sd=item.sd,
            defined=item.defined,
            correct_absence=item.counts.correct_absence,
            missed=item.counts.missed,
            false_positive=item.counts.false_positive,
            structures=len(rows[["case", "class"]].drop_duplicates()),
        )
        for kind, size, rows in parts
        if kind == "size"
        for item in _means_of(rows.assign(size=size), metrics, "size")
    ]


def _means_of(rows: pd.DataFrame, metrics: Sequence[str], column: str) -> Iterator[_PartMean]:
    """Yield the mean of each metric, value of `column` and loss, in the order of the rows."""
    chosen = rows[rows["metric"].isin(list(metrics))]
    for (metric, name, loss), part in chosen.groupby(["metric", column, "loss"], sort=False):
        values = part["value"].dropna().to_numpy()
        states = part["state"].value_counts()
        counts = {state: int(states.get(state, 0)) for state in StateCounts.model_fields}
        yield _PartMean(
            metric=str(metric),
            part=str(name),
            loss=str(loss),
            mean=float(values.mean()) if values.size else None,
            sd=float(np.std(values, ddof=1)) if values.size > 1 else None,
            defined=len(values),
            counts=StateCounts(**counts),
        )
