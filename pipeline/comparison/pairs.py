"""Every pair of losses by one metric, and what follows from them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.difference import Difference, difference
from pipeline.comparison.limits import beyond
from pipeline.comparison.noise import noise_floor
from pipeline.comparison.pairing import Paired
from pipeline.comparison.power import Rule, all_needed, needed, noise_of_gap, rule_of
from pipeline.comparison.resampling import Units, resampled_means, units_of

MARGINS = {"mm": 0.5, "share": 0.005}
"""Differences that do not matter: half a Dice point, half a millimetre."""

Kind = Literal["winner", "equivalent", "inconclusive"]


def margin_of(metric: str, margins: Mapping[str, float] | None) -> float:
    """Return the difference that does not matter for a metric; `margins` may name a metric or the unit ``mm``."""
    given = margins or {}
    if metric.endswith("_mm"):
        return given.get(metric, given.get("mm", MARGINS["mm"]))
    return given.get(metric, MARGINS["share"])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, step by step [Holm 1979]."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric: differences of all pairs, as numbers and as entries of the verdict."""

    paired: Paired
    units: Units
    drawn: NDArray[np.float64]
    found: dict[tuple[int, int], Difference]
    rules: dict[tuple[int, int], Rule]
    entries: list[dict[str, Any]]
    noise: dict[str, Any]
    confidence: float

    def interval_of_mean(self, loss: str) -> tuple[float, float] | None:
        """Return the bootstrap interval of one loss's mean; None for one patient."""
        if self.units.patient_count < 2:
            return None
        values = self.drawn[:, self.paired.losses.index(loss)]
        low, high = np.quantile(values, [0.5 - self.confidence / 2, 0.5 + self.confidence / 2])
        return float(low), float(high)

    def smallest_detectable(self) -> float | None:
        """Return the difference that is found in 8 of 10 studies like this one: the median over pairs.

        None where there are no pairs, or where it is larger than the metric allows: nothing possible would be found.
        """
        each = [rule.detectable() for rule in self.rules.values()]
        found = float(np.median(each)) if each else None
        return None if found is None or beyond(self.paired, found) else found


def compare_pairs(
    paired: Paired, margins: Mapping[str, float] | None, confidence: float, resamples: int, seed: int
) -> Comparison:
    """Return all pairwise differences of a metric, with Holm's correction over them."""
    units = units_of(paired)
    drawn = resampled_means(paired, units, resamples, seed)
    noise = noise_floor(paired)
    found: dict[tuple[int, int], Difference] = {}
    for i in range(len(paired.losses)):
        for j in range(i + 1, len(paired.losses)):
            one = difference(
                paired.values[i] - paired.values[j],
                paired.seeds[i] - paired.seeds[j],
                drawn[:, i] - drawn[:, j],
                units,
                confidence,
            )
            if one is not None:
                found[i, j] = one
    corrected = holm([one.p_wilcoxon for one in found.values()])
    margin = margin_of(paired.metric, margins)
    rules = {key: rule_of(one, confidence, len(found)) for key, one in found.items()}
    entries = []
    for (key, one), p_holm in zip(found.items(), corrected, strict=True):
        clear = bool(p_holm < 1 - confidence and (one.ci_low > 0 or one.ci_high < 0))
        better = paired.losses[key[0] if (one.mean > 0) == paired.higher_is_better else key[1]]
        entries.append(
            {
                "a": paired.losses[key[0]],
                "b": paired.losses[key[1]],
                "metric": paired.metric,
                "cases": len(paired.cases),
                "difference": one.mean,
                "ci_low": one.ci_low,
                "ci_high": one.ci_high,
                "p_wilcoxon": one.p_wilcoxon,
                "p_holm": float(p_holm),
                "equivalent": one.within(margin),
                "better": better if clear else None,
                "margin": margin,
                "noise_floor": noise_of_gap(noise["sd_between_seeds"], noise["seeds"]),
                "cohen_dz": one.cohen_dz,
                "rank_biserial": one.rank_biserial,
                "superiority": one.superiority,
                "power_at_margin": rules[key].power(margin),
            }
        )
    return Comparison(paired, units, drawn, found, rules, entries, noise, confidence)


def decide(comparison: Comparison, controls: Collection[str] = ()) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of verdict and the losses that it leaves standing, the best mean first.

    A loss is out where the best one is clearly better by more than what matters: a difference that is real but lies
    within the margin leaves two equivalents. Controls (`pipeline.comparison.controls`) are no candidates.
    """
    paired = comparison.paired
    order = np.argsort(-paired.means if paired.higher_is_better else paired.means, kind="stable")
    ranked = [name for i in order if (name := paired.losses[int(i)]) not in controls]
    best, rest = ranked[0], ranked[1:]
    against = {_other(entry, best): entry for entry in comparison.entries if best in (entry["a"], entry["b"])}
    standing = [
        name for name in rest if name not in against or against[name]["better"] != best or against[name]["equivalent"]
    ]
    if not rest:
        return "inconclusive", (best,)
    if not standing:
        return "winner", (best,)
    same = all(name in against and against[name]["equivalent"] for name in standing)
    return "equivalent" if same else "inconclusive", (best, *standing)


def near_best(candidates: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the candidates (best mean first) whose mean differs from that of the best by no more than what matters.

    Those are all where they are equivalent. Where the data cannot tell, one that is far behind is not refuted, but a
    worse bet.
    """
    far = {
        _other(entry, candidates[0])
        for entry in entries
        if candidates[0] in (entry["a"], entry["b"]) and abs(entry["difference"]) > entry["margin"]
    }
    return tuple(name for name in candidates if name not in far)


def more_needed(kind: Kind, comparison: Comparison, candidates: Sequence[str]) -> dict[str, Any]:
    """Return about how many cases in all, or seeds, would tell the best from the others left standing.

    Nothing is known of that where there is one patient, and so no difference.
    """
    paired = comparison.paired
    if kind != "inconclusive" or len(candidates) < 2 or not comparison.entries:
        return {}
    best = paired.losses.index(candidates[0])
    now = {"cases_now": len(paired.cases), "seeds_now": paired.seeds.shape[1]}
    every, aims = [], set()
    for entry, (key, found) in zip(comparison.entries, comparison.found.items(), strict=True):
        open_pair = entry["better"] is None and not entry["equivalent"]
        if best in key and open_pair and {paired.losses[i] for i in key} <= set(candidates):
            one = needed(found, comparison.rules[key], entry["margin"], now["cases_now"], now["seeds_now"])
            every.append(one)
            aims.add(one.aim)
    if not every:
        return {"cases": None, "seeds": None, "together": False, "aim": None, **now}
    decided = all_needed(every, now["cases_now"], now["seeds_now"])
    return {**decided, "aim": aims.pop() if len(aims) == 1 else "both", **now}


def _other(entry: Mapping[str, Any], name: str) -> str:
    return str(entry["b"] if entry["a"] == name else entry["a"])
