"""Every pair of losses by one metric, and what follows from them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.bounds import beyond
from pipeline.comparison.difference import Difference, all_differences
from pipeline.comparison.noise import noise_floor
from pipeline.comparison.pairing import Paired
from pipeline.comparison.power import OpenPair, Rule, needed, noise_of_gap, rule_of
from pipeline.comparison.resampling import Units, resampled_means, units_of
from pipeline.comparison.variance import MeanErrors, mean_errors
from pipeline.records.metrics import Unit, metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import MoreNeeded, NoiseFloor, VerdictKind


def margin_of(metric: str, margins: Mapping[str, float] | None) -> float:
    """Return the difference that does not matter, in the metric's unit.

    `margins` may name the metric itself, or ``mm`` for all distances and ``share`` for all shares.
    """
    given, info = margins or {}, metric_of(metric)
    unit = {Unit.MM: "mm", Unit.SHARE: "share"}.get(info.unit, "")
    return given.get(metric, given.get(unit, info.margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, step by step [Holm 1979]."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric: differences of all pairs of losses, as statistics and as results for the verdict."""

    paired: Paired
    units: Units
    errors: MeanErrors
    differences: dict[tuple[int, int], Difference]
    rules: dict[tuple[int, int], Rule]
    pairs: list[PairResult]
    noise: NoiseFloor
    confidence: float

    @property
    def replicated(self) -> bool:
        """Whether the noise of trainings is known; without it no loss is a winner, and none are equivalent."""
        return self.errors.replicated

    def intervals_of_means(self, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """Return the bootstrap interval of each loss's mean; empty for one patient."""
        if self.units.patient_count < 2:
            return {}
        drawn = resampled_means(self.paired, self.units, resamples, seed)
        low, high = np.quantile(drawn, [0.5 - self.confidence / 2, 0.5 + self.confidence / 2], axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.paired.losses)}

    def smallest_detectable(self) -> float | None:
        """Return the difference that is found in 8 of 10 studies like this one: the median over pairs.

        None where there are no pairs, where trainings are not replicated, or where it is larger than the metric allows.
        """
        each = [rule.detectable() for rule in self.rules.values()] if self.replicated else []
        found = float(np.median(each)) if each else None
        return None if found is None or beyond(self.paired, found) else found


def compare_pairs(
    paired: Paired,
    margins: Mapping[str, float] | None,
    confidence: float,
    training_sd: float | None = None,
) -> Comparison:
    """Return all pairwise differences of a metric, with Holm's correction of the tests that decide.

    The p value, the interval and the correction belong to one statistic: the mean difference over its standard error,
    which holds the noise of patients and of trainings.
    """
    units = units_of(paired)
    noise = noise_floor(paired)
    errors = mean_errors(paired, units, training_sd)
    found = all_differences(paired, units, errors, confidence)
    corrected = holm([one.p_value for one in found.values()])
    margin = margin_of(paired.metric, margins)
    rules = {key: rule_of(one, confidence, len(found)) for key, one in found.items()}
    results = []
    for (key, one), p_holm in zip(found.items(), corrected, strict=True):
        disagree = one.mean_and_typical_case_disagree
        clear = one.replicated and p_holm < 1 - confidence and not disagree
        better = paired.losses[key[0] if (one.mean > 0) == paired.higher_is_better else key[1]]
        results.append(
            PairResult(
                a=paired.losses[key[0]],
                b=paired.losses[key[1]],
                metric=paired.metric,
                cases=len(paired.cases),
                difference=one.mean,
                ci_low=one.ci_low,
                ci_high=one.ci_high,
                p_value=one.p_value,
                p_holm=p_holm,
                replicated=one.replicated,
                equivalent=one.within(margin),
                better=better if clear else None,
                margin=margin,
                median_difference=one.median,
                typical_case_disagrees=disagree,
                noise_floor=noise_of_gap(noise.sd_between_seeds, noise.seeds),
                p_wilcoxon=one.p_wilcoxon,
                cohen_dz=one.cohen_dz,
                rank_biserial=one.rank_biserial,
                superiority=one.superiority,
                power_at_margin=rules[key].power(margin) if one.replicated else None,
            )
        )
    return Comparison(paired, units, errors, found, rules, results, noise, confidence)


def decide(comparison: Comparison, controls: Collection[str] = ()) -> tuple[VerdictKind, tuple[str, ...]]:
    """Return the kind of verdict and the losses that it leaves standing, the best mean first.

    A loss is out where the best one is clearly better by more than what matters: a difference that is real but lies
    within the margin leaves two equivalents. Controls (`pipeline.comparison.controls`) are no candidates.
    """
    paired = comparison.paired
    order = np.argsort(-paired.means if paired.higher_is_better else paired.means, kind="stable")
    ranked = [name for i in order if (name := paired.losses[int(i)]) not in controls]
    best, rest = ranked[0], ranked[1:]
    against = {pair.other(best): pair for pair in comparison.pairs if best in pair.names}
    standing = [
        name for name in rest if name not in against or against[name].better != best or against[name].equivalent
    ]
    if not rest:
        return "inconclusive", (best,)
    if not standing:
        return "winner", (best,)
    same = all(name in against and against[name].equivalent for name in standing)
    return "equivalent" if same else "inconclusive", (best, *standing)


def near_best(candidates: Sequence[str], pairs: Sequence[PairResult]) -> tuple[str, ...]:
    """Return the candidates (best mean first) whose mean differs from that of the best by no more than what matters.

    Those are all where they are equivalent. Where the data cannot tell, one that is far behind is not refuted, but a
    worse bet.
    """
    far = {
        pair.other(candidates[0])
        for pair in pairs
        if candidates[0] in pair.names and abs(pair.difference) > pair.margin
    }
    return tuple(name for name in candidates if name not in far)


def more_needed(kind: VerdictKind, comparison: Comparison, candidates: Sequence[str]) -> MoreNeeded | None:
    """Return how many cases in all, or seeds, would probably tell the best from the others left standing.

    None for a verdict, for one patient, and without replicated trainings: then training again comes first.
    """
    paired = comparison.paired
    if kind != "inconclusive" or len(candidates) < 2 or not comparison.pairs or not comparison.replicated:
        return None
    best = paired.losses.index(candidates[0])
    cases, seeds = len(paired.cases), paired.seeds.shape[1]
    open_pairs = [
        OpenPair(difference, (1 - comparison.confidence) / len(comparison.differences), pair.margin)
        for pair, (key, difference) in zip(comparison.pairs, comparison.differences.items(), strict=True)
        if best in key and pair.names <= set(candidates) and pair.better is None and not pair.equivalent
    ]
    if not open_pairs:
        return None
    plan = needed(open_pairs, cases, seeds)
    return MoreNeeded(
        cases=plan.cases,
        seeds=plan.seeds,
        together=plan.together,
        assurance=plan.assurance.expected,
        assurance_low=plan.assurance.low,
        assurance_high=plan.assurance.high,
        cases_now=cases,
        seeds_now=seeds,
    )
