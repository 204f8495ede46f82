"""Compare every pair of losses by one metric, and decide between winner, equivalent and inconclusive."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.difference import Difference, all_differences
from pipeline.comparison.noise import noise_floor
from pipeline.comparison.pairing import Paired
from pipeline.comparison.power import OpenPair, Rule, deciding_study, noise_of_gap, rule_of
from pipeline.comparison.resampling import Units, resampled_means, units_of
from pipeline.comparison.variance import MeanErrors, mean_errors
from pipeline.records.metrics import Unit, metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import MoreNeeded, NoiseFloor, VerdictKind


def margin_of(metric: str, margins: Mapping[str, float] | None) -> float:
    """Return the difference that does not matter, in the metric's unit.

    `margins` may name the metric itself, or ``mm`` for all distances and ``share`` for all shares.

    Examples
    --------
    >>> margin_of("assd_mm", None), margin_of("assd_mm", {"mm": 0.2}), margin_of("dice", {"mm": 0.2})
    (0.5, 0.2, 0.005)
    """
    given, info = margins or {}, metric_of(metric)
    unit = {Unit.MM: "mm", Unit.SHARE: "share"}.get(info.unit, "")
    return given.get(metric, given.get(unit, info.margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values with Holm's step-down correction for multiple tests [Holm 1979].

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of all pairs of losses by one metric.

    Attributes
    ----------
    paired, units, errors
        Values, their independent units, and the errors of mean differences.
    differences, rules
        Statistics of each pair, and the rule by which its difference counts as found, by the positions of both losses.
    pairs
        Results of the pairs for the verdict, in the order of `differences`.
    noise
        Noise between seeds.
    confidence
        Confidence of the intervals.
    """

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
        """True if the noise of trainings is known; otherwise there is neither a winner nor equivalence."""
        return self.errors.replicated

    def intervals_of_means(self, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """Return the bootstrap interval of each loss's mean; an empty mapping for a single patient."""
        if self.units.patient_count < 2:
            return {}
        drawn = resampled_means(self.paired, self.units, resamples, seed)
        low, high = np.quantile(drawn, [0.5 - self.confidence / 2, 0.5 + self.confidence / 2], axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.paired.losses)}

    def smallest_detectable(self) -> float | None:
        """Return the difference that 8 of 10 studies like this one would find (median over pairs).

        None if there are no pairs, if trainings are not replicated, or if it is larger than the metric allows.
        """
        each = [rule.detectable() for rule in self.rules.values()] if self.replicated else []
        smallest = float(np.median(each)) if each else None
        return None if smallest is None or smallest > _largest_difference(self.paired) else smallest


def _largest_difference(paired: Paired) -> float:
    """Return the largest possible difference; without an upper limit of the metric, the largest value of any case."""
    largest = paired.info.largest
    return float(abs(paired.values).max()) if largest is None else largest


def compare_pairs(
    paired: Paired,
    margins: Mapping[str, float] | None,
    confidence: float,
    training_sd: float | None = None,
) -> Comparison:
    """Compare all pairs of losses by one metric, with Holm's correction of the tests that decide.

    The p value, the interval and the correction belong to one statistic: the mean difference divided by its standard
    error, which includes the noise of patients and of trainings.

    Parameters
    ----------
    paired
        Values of each loss and case.
    margins
        Differences that do not matter, as for `margin_of`.
    confidence
        Confidence of the intervals.
    training_sd
        Stated noise of trainings, as for `pipeline.comparison.variance.mean_errors`.
    """
    units = units_of(paired)
    noise = noise_floor(paired)
    errors = mean_errors(paired, units, training_sd)
    differences = all_differences(paired, units, errors, confidence)
    corrected = holm([difference.p_value for difference in differences.values()])
    margin = margin_of(paired.metric, margins)
    rules = {key: rule_of(difference, confidence, len(differences)) for key, difference in differences.items()}
    results = []
    for (key, difference), p_holm in zip(differences.items(), corrected, strict=True):
        disagree = difference.mean_and_typical_case_disagree
        clear = difference.replicated and p_holm < 1 - confidence and not disagree
        better = paired.losses[key[0] if (difference.mean > 0) == paired.higher_is_better else key[1]]
        results.append(
            PairResult(
                a=paired.losses[key[0]],
                b=paired.losses[key[1]],
                metric=paired.metric,
                cases=len(paired.cases),
                difference=difference.mean,
                ci_low=difference.ci_low,
                ci_high=difference.ci_high,
                p_value=difference.p_value,
                p_holm=p_holm,
                replicated=difference.replicated,
                equivalent=difference.within(margin),
                better=better if clear else None,
                margin=margin,
                median_difference=difference.median,
                typical_case_disagrees=disagree,
                noise_floor=noise_of_gap(noise.sd_between_seeds, noise.seeds),
                p_wilcoxon=difference.p_wilcoxon,
                cohen_dz=difference.cohen_dz,
                rank_biserial=difference.rank_biserial,
                superiority=difference.superiority,
                power_at_margin=rules[key].power(margin) if difference.replicated else None,
            )
        )
    return Comparison(paired, units, errors, differences, rules, results, noise, confidence)


def decide(comparison: Comparison, controls: Collection[str] = ()) -> tuple[VerdictKind, tuple[str, ...]]:
    """Return the kind of verdict and the remaining candidates, the best mean first.

    A loss is excluded if the best one is clearly better and the difference is not shown to lie within the margin. Two
    losses with a real difference within the margin are therefore equivalent. Controls (`pipeline.comparison.controls`)
    are never candidates.
    """
    paired = comparison.paired
    order = np.argsort(-paired.means if paired.higher_is_better else paired.means, kind="stable")
    ranked = [name for i in order if (name := paired.losses[int(i)]) not in controls]
    best, rest = ranked[0], ranked[1:]
    against = {pair.other(best): pair for pair in comparison.pairs if best in pair.names}
    remaining = [
        name for name in rest if name not in against or against[name].better != best or against[name].equivalent
    ]
    if not rest:
        return "inconclusive", (best,)
    if not remaining:
        return "winner", (best,)
    same = all(name in against and against[name].equivalent for name in remaining)
    return "equivalent" if same else "inconclusive", (best, *remaining)


def near_best(candidates: Sequence[str], pairs: Sequence[PairResult]) -> tuple[str, ...]:
    """Return the candidates (best mean first) whose mean is within the margin of the best mean.

    Equivalent losses usually all are. In an inconclusive study, a loss that is far behind is not refuted, but is a
    worse choice.
    """
    far = {
        pair.other(candidates[0])
        for pair in pairs
        if candidates[0] in pair.names and abs(pair.difference) > pair.margin
    }
    return tuple(name for name in candidates if name not in far)


def more_needed(kind: VerdictKind, comparison: Comparison, candidates: Sequence[str]) -> MoreNeeded | None:
    """Return the total number of cases or seeds that would probably decide between the best and the other candidates.

    None if the study decides, has a single patient, or lacks replicated trainings; the latter come first.
    """
    paired = comparison.paired
    if kind != "inconclusive" or len(candidates) < 2 or not comparison.pairs or not comparison.replicated:
        return None
    best = paired.losses.index(candidates[0])
    open_pairs = [
        OpenPair(difference, (1 - comparison.confidence) / len(comparison.differences), pair.margin)
        for pair, (key, difference) in zip(comparison.pairs, comparison.differences.items(), strict=True)
        if best in key and pair.names <= set(candidates) and pair.better is None and not pair.equivalent
    ]
    return study_to_decide(open_pairs, paired)


def study_to_decide(open_pairs: Sequence[OpenPair], paired: Paired) -> MoreNeeded | None:
    """Return the smallest study that would probably decide some pairs, beside the cases and seeds of this one."""
    if not open_pairs:
        return None
    cases, seeds = len(paired.cases), paired.values_by_seed.shape[1]
    plan = deciding_study(open_pairs, cases, seeds)
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
