"""Write the caveats of a verdict, which a reader should know before trusting it."""

from collections.abc import Mapping, Sequence

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.phrases import amount, counted, listed, phrase
from pipeline.comparison.strata import Reversal
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import CollapseProbability, Verdict

MIXED = "Mean and typical case disagree"
"""Beginning of the caveat that reports highlight, because it may reverse the choice."""


def caveats_of(
    verdict: Verdict, compared: Mapping[str, Comparison], reversals: Sequence[Reversal] = ()
) -> tuple[str, ...]:
    """Return the caveats: design, failures, pairs, operating points and reversals.

    Parameters
    ----------
    verdict
        The verdict without caveats.
    compared
        Comparison by each metric. If it lacks the deciding metric, there are no caveats.
    reversals
        Parts of the data that contradict the whole.
    """
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
    folds, seeds = main.units.fold_count, main.paired.values_by_seed.shape[1]
    if not main.replicated:
        return []  # the headline says so
    if verdict.training_sd is not None and folds < 2 and seeds < 2:
        return [
            f"The noise of trainings ({amount(verdict.primary, verdict.training_sd)}) was stated by the user, not "
            "measured in this study."
        ]
    caveats = []
    if seeds < 2:
        caveats.append("One seed only: the noise between trainings of one loss is estimated from the folds alone.")
    if folds < 2:
        caveats.append("One fold only: the noise between trainings of one loss is estimated from the seeds alone.")
    if folds == 2:
        caveats.append("Two folds are two trainings: intervals are wide. Use five folds, or more seeds.")
    return caveats


def _caveats_of_failures(verdict: Verdict, compared: Mapping[str, Comparison]) -> list[str]:
    """Return the caveats about collapsed trainings, losses that are not compared, and missing values."""
    caveats = [
        f"{result.name}: {collapse_sentence(result.collapse, verdict.confidence)}. Collapsed trainings "
        "count as failures in every case."
        for result in verdict.losses
        if result.collapsed_runs and result.collapse is not None
    ]
    caveats += [f"{name} is not compared: {why}." for name, why in verdict.set_aside.items()]
    for metric, item in compared.items():
        if item.paired.excluded_count:
            caveats.append(
                f"{item.paired.excluded_count} value(s) of {phrase(metric)} are missing for some loss. Those classes "
                "of those cases are excluded for all losses."
            )
        if item.paired.imputed_count:
            caveats.append(
                f"{item.paired.imputed_count} value(s) of {phrase(metric)} of collapsed runs are not in the table. The "
                "largest value of the same case replaces them. For an exact result, state the value of a miss "
                "(--miss-value of `whichloss compare`)."
            )
    return caveats


def collapse_sentence(collapse: CollapseProbability, confidence: float) -> str:
    """Return the number of collapsed trainings of a loss, with the interval of the probability of collapse.

    Examples
    --------
    >>> collapse_sentence(CollapseProbability(runs=1, of=10, ci_low=0.0025, ci_high=0.445), 0.95)
    '1 of 10 trainings collapsed (probability of collapse: 95 % interval 0 to 44 %)'
    """
    low, high = (f"{100 * (end or 0.0):.0f}" for end in (collapse.ci_low, collapse.ci_high))
    return (
        f"{collapse.runs} of {counted(collapse.of, 'training', 'trainings')} collapsed "
        f"(probability of collapse: {100 * confidence:g} % interval {low} to {high} %)"
    )


def _caveats_of_pairs(verdict: Verdict) -> list[str]:
    metric, recommended, controls = verdict.primary, verdict.recommended, verdict.controls
    caveats = []
    ahead: dict[str, list[str]] = {}
    for pair in verdict.pairs:
        against = pair.metric != metric and recommended in pair.names and not pair.equivalent
        if against and pair.better is not None and pair.better not in (recommended, *controls):
            ahead.setdefault(pair.metric, []).append(pair.better)
    caveats += [
        f"{recommended} is clearly worse than {listed(names)} by {phrase(name)}: decide which metric matters more."
        for name, names in ahead.items()
    ]
    caveats += [_disagreement(pair) for pair in verdict.primary_pairs if _is_worth_a_caveat(pair, verdict)]
    caveats += [
        f"{pair.a} and {pair.b} are the same loss, yet differ clearly by {phrase(pair.metric)}. Chance causes this in "
        "1 of 20 studies; do not trust differences of that size here."
        for pair in verdict.pairs
        if pair.better and (controls.get(pair.a) == pair.b or controls.get(pair.b) == pair.a)
    ]
    return caveats


def _is_worth_a_caveat(pair: PairResult, verdict: Verdict) -> bool:
    return pair.typical_case_disagrees and pair.names <= {*verdict.candidates, str(verdict.recommended)}


def _disagreement(pair: PairResult) -> str:
    """Return the sentence about a mean that favors one loss while the other is better in most cases."""
    info = metric_of(pair.metric)
    a_is_favored = (pair.difference > 0) == info.higher_is_better
    by_mean, other = (pair.a, pair.b) if a_is_favored else (pair.b, pair.a)
    a_has_more = pair.superiority or 0.0
    a_is_better = a_has_more if info.higher_is_better else 1 - a_has_more
    share = 1 - a_is_better if a_is_favored else a_is_better
    return (
        f"{MIXED}: the mean {info.phrase} favors {by_mean}, yet {other} is better in {100 * share:.0f} % of cases and "
        "much worse in a few. Inspect these cases before choosing."
    )


def reversal_sentence(reversal: Reversal) -> str:
    """Return the sentence about a part of the data that contradicts the whole."""
    if reversal.kind == "cases":
        return (
            f"The plain mean of {phrase(reversal.metric)} favors {reversal.better} over {reversal.worse}, but they "
            f"have results on different cases. On the cases that all losses share, it favors {reversal.worse}."
        )
    place = {"class": "class", "size": "structures of"}[reversal.kind]
    named = ", ".join(reversal.where)
    if reversal.every:
        return (
            f"Reversal by {phrase(reversal.metric)}: {reversal.worse} has the better mean over all cases, yet "
            f"{reversal.better} has it in every {'class' if reversal.kind == 'class' else 'group of sizes'} ({named})."
        )
    return (
        f"By {phrase(reversal.metric)}, {reversal.better} is clearly better than {reversal.worse} in {place} {named}."
    )
