"""The comparison again within each class and each size, and where it points the other way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import compare_pairs
from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.sizes import size_groups
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import pair_of
from pipeline.records.states import State
from pipeline.records.verdict import ClassMeans, Part, PartDifference, SizeMeans

STATES = (State.CORRECT_ABSENCE, State.MISSED, State.FALSE_POSITIVE)


@dataclass(frozen=True, slots=True)
class Reversal:
    """A part of the data that contradicts the whole.

    Attributes
    ----------
    kind
        Whether the parts are classes, sizes, or the cases that each loss happens to have.
    metric
        Metric of the contradiction.
    better, worse
        The loss that is ahead there, and the one that is ahead over all.
    where
        Names of the parts.
    every
        Whether all parts contradict the whole, or some do clearly.
    """

    kind: Literal["class", "size", "cases"]
    metric: str
    better: str
    worse: str
    where: tuple[str, ...]
    every: bool


def parts_of(rows: pd.DataFrame) -> list[tuple[Part, str, pd.DataFrame]]:
    """Return the rows of each class and each size, where there are two or more."""
    classes = list(dict.fromkeys(rows["class"]))
    parts: list[tuple[Part, str, pd.DataFrame]] = []
    if len(classes) > 1:
        parts += [("class", name, rows[rows["class"] == name]) for name in classes]
    parts += [("size", name, part) for name, part in size_groups(rows).items()]
    return parts


def within_parts(
    parts: Sequence[tuple[Part, str, pd.DataFrame]],
    metric: str,
    losses: Sequence[str],
    best: str,
    settings: ComparisonSettings,
) -> list[PartDifference]:
    """Return the difference of the best loss and each other in each part, with Holm's correction within the part."""
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
    """Return the losses that are ahead of the best in all parts of a kind, or clearly better in some.

    `differences` are those of one metric.
    """
    found = []
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
            found.append(Reversal(kind, parts[0].metric, other, best, where, every))
    return found


def reversals_of_plain_means(rows: pd.DataFrame, paired: Paired) -> list[Reversal]:
    """Return pairs whose means over whatever cases each has point against those over common cases."""
    metric = paired.metric
    one = rows[(rows["metric"] == metric) & rows["loss"].isin(paired.losses)]
    if one.groupby("loss")["case"].nunique().nunique() < 2 and one["case"].nunique() == len(paired.cases):
        return []
    plain = one.groupby(["loss", "case"])["value"].mean().groupby("loss").mean().reindex(list(paired.losses))
    sign = 1 if metric_of(metric).higher_is_better else -1
    found = []
    for i, a in enumerate(paired.losses):
        for j, b in enumerate(paired.losses):
            ahead = sign * float(plain.iloc[i] - plain.iloc[j]) > 0
            if ahead and sign * (paired.means[i] - paired.means[j]) < 0:
                found.append(Reversal("cases", metric, a, b, (), True))
    return found


def means_by_class(rows: pd.DataFrame, metrics: Sequence[str]) -> list[ClassMeans]:
    """Return mean, standard deviation and counts of states for each metric, class and loss."""
    return [
        ClassMeans(class_name=name, metric=metric, loss=loss, **counts)
        for metric, name, loss, counts in _means_of(rows, metrics, "class")
    ]


def means_by_size(parts: Sequence[tuple[Part, str, pd.DataFrame]], metrics: Sequence[str]) -> list[SizeMeans]:
    """Return mean, standard deviation and counts of states for each metric, size and loss."""
    return [
        SizeMeans(
            size=size,
            metric=metric,
            loss=loss,
            structures=int(part[["case", "class"]].drop_duplicates().shape[0]),
            **counts,
        )
        for kind, size, part in parts
        if kind == "size"
        for metric, _, loss, counts in _means_of(part.assign(size=size), metrics, "size")
    ]


def _means_of(
    rows: pd.DataFrame, metrics: Sequence[str], column: str
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield metric, part and loss with the mean, deviation and counts of its values."""
    chosen = rows[rows["metric"].isin(list(metrics))]
    for (metric, name, loss), part in chosen.groupby(["metric", column, "loss"], sort=False):
        values = part["value"].dropna().to_numpy()
        states = part["state"].value_counts()
        counts = {
            "mean": float(values.mean()) if values.size else None,
            "sd": float(np.std(values, ddof=1)) if values.size > 1 else None,
            "defined": len(values),
            **{state.value: int(states.get(state, 0)) for state in STATES},
        }
        yield str(metric), str(name), str(loss), counts
