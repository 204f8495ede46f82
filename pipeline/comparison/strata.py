"""The comparison again within each class and each size, and where it points the other way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import compare_pairs
from pipeline.comparison.sizes import size_groups
from pipeline.records.metrics import metric_of

STATES = ("correct_absence", "missed", "false_positive")
Kind = Literal["class", "size"]


@dataclass(frozen=True, slots=True)
class Reversal:
    """Where a part of the data contradicts the whole."""

    kind: Literal["class", "size", "cases"]
    better: str
    worse: str
    where: tuple[str, ...]
    every: bool

    def sentence(self, metric: str) -> str:
        """Return it in words."""
        if self.kind == "cases":
            return (
                f"The plain mean of {metric} favours {self.better} over {self.worse}, but they were not tested on the "
                "same cases: on those that both have it is the other way around."
            )
        place = {"class": "class", "size": "structures of"}[self.kind]
        named = ", ".join(self.where)
        if self.every:
            return (
                f"Reversal: {self.worse} is ahead of {self.better} over all cases, yet {self.better} is ahead in every "
                f"{'class' if self.kind == 'class' else 'group of sizes'} ({named}) by {metric}."
            )
        return f"By {metric}, {self.better} is clearly better than {self.worse} in {place} {named}."


def parts_of(rows: pd.DataFrame) -> list[tuple[Kind, str, pd.DataFrame]]:
    """Return the rows of each class and each size, where there are two or more."""
    classes = list(dict.fromkeys(rows["class"]))
    parts: list[tuple[Kind, str, pd.DataFrame]] = []
    if len(classes) > 1:
        parts += [("class", name, rows[rows["class"] == name]) for name in classes]
    parts += [("size", name, part) for name, part in size_groups(rows).items()]
    return parts


def within_parts(
    parts: Sequence[tuple[Kind, str, pd.DataFrame]],
    metric: str,
    losses: Sequence[str],
    best: str,
    confidence: float,
    miss_value: float | None = None,
) -> list[dict[str, Any]]:
    """Return the difference of the best loss and each other in each part, with Holm's correction within the part."""
    entries = []
    for kind, name, rows in parts:
        paired = pair(rows, metric, losses, miss_value)
        if paired is None or best not in paired.losses:
            continue
        compared = compare_pairs(paired, None, confidence)
        first = paired.losses.index(best)
        for index, other in enumerate(paired.losses):
            if other == best:
                continue
            mean = float(paired.means[first] - paired.means[index])
            entry = next((e for e in compared.entries if {e["a"], e["b"]} == {best, other}), None)
            low, high = (None, None) if entry is None else (entry["ci_low"], entry["ci_high"])
            if entry is not None and entry["a"] != best:
                low, high = -entry["ci_high"], -entry["ci_low"]
            entries.append(
                {
                    "kind": kind,
                    "part": name,
                    "metric": metric,
                    "a": best,
                    "b": other,
                    "cases": len(paired.cases),
                    "difference": mean,
                    "ci_low": low,
                    "ci_high": high,
                    "ahead": best if (mean > 0) == paired.higher_is_better else other,
                    "clear": entry is not None and entry["better"] is not None,
                }
            )
    return entries


def reversals(entries: Sequence[Mapping[str, Any]], best: str) -> list[Reversal]:
    """Return the losses that are ahead of the best in all parts of a kind, or clearly better in some."""
    found = []
    groups: dict[tuple[Kind, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["difference"] != 0:
            groups.setdefault((entry["kind"], entry["b"]), []).append(entry)
    for (kind, other), parts in groups.items():
        ahead = [entry for entry in parts if entry["ahead"] == other]
        clear = [entry for entry in ahead if entry["clear"]]
        every = len(parts) > 1 and len(ahead) == len(parts)
        if every or clear:
            where = tuple(str(entry["part"]) for entry in (parts if every else clear))
            found.append(Reversal(kind, other, best, where, every))
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
                found.append(Reversal("cases", a, b, (), True))
    return found


def means_of(rows: pd.DataFrame, metrics: Sequence[str], key: str) -> list[dict[str, Any]]:
    """Return mean, standard deviation and counts of states for each metric, part and loss."""
    entries = []
    wanted = rows[rows["metric"].isin(list(metrics))]
    for (metric, name, loss), part in wanted.groupby(["metric", key, "loss"], sort=False):
        values = part["value"].dropna().to_numpy()
        states = part["state"].value_counts()
        entries.append(
            {
                "metric": metric,
                key: name,
                "loss": loss,
                "mean": float(values.mean()) if values.size else None,
                "sd": float(np.std(values, ddof=1)) if values.size > 1 else None,
                "defined": len(values),
                **{state: int(states.get(state, 0)) for state in STATES},
            }
        )
    return entries
