"""Caveats of a verdict: what a reader has to know before trusting it."""

from collections.abc import Mapping, Sequence

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.phrases import amount, counted, listed, phrase
from pipeline.comparison.strata import Reversal
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import CollapseProbability, Verdict

MIXED = "Mean and typical case disagree"
"""Beginning of a caveat that must not be overlooked."""


def caveats_of(
    verdict: Verdict, compared: Mapping[str, Comparison], reversals: Sequence[Reversal] = ()
) -> tuple[str, ...]:
    """Return the caveats in the order of their weight; none if there is nothing to compare."""
    if verdict.primary not in compared:
        return ()
    main = compared[verdict.primary]
    points = verdict.operating_points
    return (
        *_caveats_of_design(verdict, main),
        *_caveats_of_failures(verdict, compared),
        *_caveats_of_pairs(verdict),
        *(() if points is None else points.caveats),
        *(reversal_sentence(one) for one in reversals),
    )


def _caveats_of_design(verdict: Verdict, main: Comparison) -> list[str]:
    folds, seeds = main.units.fold_count, main.paired.seeds.shape[1]
    if not main.replicated:
        return []  # the headline is about it
    if verdict.training_sd is not None and folds < 2 and seeds < 2:
        return [
            f"The noise of trainings ({amount(verdict.primary, verdict.training_sd)}) was stated, not measured here."
        ]
    said = []
    if seeds < 2:
        said.append("One seed only: the noise between two trainings of one loss shows through the folds alone.")
    if folds < 2:
        said.append("One fold only: the noise between two trainings of one loss is known from the seeds alone.")
    if folds == 2:
        said.append("Two folds are two trainings: intervals are wide. Five folds, or more seeds, tell far more.")
    return said


def _caveats_of_failures(verdict: Verdict, compared: Mapping[str, Comparison]) -> list[str]:
    """Return collapsed trainings, losses set aside, and values that are missing."""
    said = [
        f"{result.name}: {collapse_sentence(result.collapse, verdict.confidence)}; they count as failures in every "
        "case."
        for result in verdict.losses
        if result.collapsed_runs and result.collapse is not None
    ]
    said += [f"{name} takes no part in the comparison: {why}." for name, why in verdict.set_aside.items()]
    for metric, item in compared.items():
        if item.paired.left_out:
            said.append(
                f"{item.paired.left_out} value(s) of {phrase(metric)} are missing for some loss; "
                "those classes of those cases are left out for all."
            )
        if item.paired.filled:
            said.append(
                f"{item.paired.filled} value(s) of {phrase(metric)} of collapsed runs are not in the table; the "
                "largest value of the same case stands for them. State the value of a miss to be exact."
            )
    return said


def collapse_sentence(collapse: CollapseProbability, confidence: float) -> str:
    """Return how many trainings of a loss collapsed, with the interval of that probability."""
    low, high = (f"{100 * (end or 0.0):.0f}" for end in (collapse.ci_low, collapse.ci_high))
    return (
        f"{collapse.runs} of {counted(collapse.of, 'training', 'trainings')} collapsed "
        f"(probability of collapse: {100 * confidence:g} % interval {low} to {high} %)"
    )


def _caveats_of_pairs(verdict: Verdict) -> list[str]:
    metric, recommended, controls = verdict.primary, verdict.recommended, verdict.controls
    said = []
    ahead: dict[str, list[str]] = {}
    for pair in verdict.pairs:
        against = pair.metric != metric and recommended in pair.names and not pair.equivalent
        if against and pair.better is not None and pair.better not in (recommended, *controls):
            ahead.setdefault(pair.metric, []).append(pair.better)
    said += [
        f"{recommended} is worse than {listed(names)} by {phrase(name)}: weigh what matters to you."
        for name, names in ahead.items()
    ]
    said += [_disagreement(pair) for pair in verdict.primary_pairs if _is_worth_a_caveat(pair, verdict)]
    said += [
        f"{pair.a} and {pair.b} are the very same loss and yet differ clearly by {phrase(pair.metric)}: "
        "chance does that in 1 of 20 studies; do not trust gaps of that size here."
        for pair in verdict.pairs
        if pair.better and (controls.get(pair.a) == pair.b or controls.get(pair.b) == pair.a)
    ]
    return said


def _is_worth_a_caveat(pair: PairResult, verdict: Verdict) -> bool:
    return pair.typical_case_disagrees and pair.names <= {*verdict.candidates, str(verdict.recommended)}


def _disagreement(pair: PairResult) -> str:
    """Return that the mean favors one loss and most cases the other."""
    info = metric_of(pair.metric)
    a_is_favored = (pair.difference > 0) == info.higher_is_better
    by_mean, other = (pair.a, pair.b) if a_is_favored else (pair.b, pair.a)
    a_has_more = pair.superiority or 0.0
    a_is_better = a_has_more if info.higher_is_better else 1 - a_has_more
    share = 1 - a_is_better if a_is_favored else a_is_better
    return (
        f"{MIXED}: the mean {info.phrase} favors {by_mean}, yet {other} is better in "
        f"{100 * share:.0f} % of cases and fails badly in a few. Look at the failures before choosing."
    )


def reversal_sentence(reversal: Reversal) -> str:
    """Return a contradiction between a part of the data and the whole in words."""
    if reversal.kind == "cases":
        return (
            f"The plain mean of {reversal.metric} favors {reversal.better} over {reversal.worse}, but they were not "
            "tested on the same cases: on those that both have it is the other way around."
        )
    place = {"class": "class", "size": "structures of"}[reversal.kind]
    named = ", ".join(reversal.where)
    if reversal.every:
        return (
            f"Reversal: {reversal.worse} is ahead of {reversal.better} over all cases, yet {reversal.better} is ahead "
            f"in every {'class' if reversal.kind == 'class' else 'group of sizes'} ({named}) by {reversal.metric}."
        )
    return f"By {reversal.metric}, {reversal.better} is clearly better than {reversal.worse} in {place} {named}."
