"""Write the verdict in sentences for readers without knowledge of statistics."""

from pipeline.comparison.budget_words import budget_sentences, course_sentences, per_run
from pipeline.comparison.caveats import collapse_sentence
from pipeline.comparison.pairs import near_best
from pipeline.comparison.phrases import amount, counted, interval, listed, p_value, phrase, signed
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import ControlGap, MoreNeeded, Verdict

MAXIMUM_PAIRS = 4
"""Number of pairs with a sentence of their own: first those of candidates, then those with the smallest difference."""

UNKNOWN_SCOPE = "The table does not state the conditions (steps, optimizer, network) of these trainings."
"""Sentence for results without records of their trainings."""

NEGLIGIBLE_ASSURANCE = 0.05
"""Below this assurance, its value is not reported."""

NOTHING_IN_COMMON = "There is nothing to compare yet: no case has results of two losses."
"""Sentence for a study whose losses share no case."""

REASONS = {
    "front": "none of the others is better in both Dice and 95 % Hausdorff distance",
    "harmless": "the others are clearly worse in another metric",
    "robust": "its trainings collapsed least often",
    "steady": "its trainings vary least",
    "simplest": "it is the simplest of them",
    "cheapest": "its trainings take the least time",
    "best mean": "its mean is the best",
}
"""Reason for the recommended loss, by the step of `pipeline.comparison.recommend` that left it alone."""


def sentences(verdict: Verdict) -> tuple[str, ...]:
    """Return the verdict as sentences, the most important first.

    Its `operating_points` already have their sentences.
    """
    if not verdict.primary:
        return (_no_results(verdict), *(verdict.scope.words if verdict.scope else ()))
    metric, recommended = verdict.primary, str(verdict.recommended)
    name = phrase(metric)
    lines = [_headline(verdict, name), *(budget_sentences(verdict.budgets) if verdict.budgets else ())]
    pairs = [pair.seen_from(recommended) for pair in verdict.primary_pairs if recommended in pair.names]
    pairs = [pair for pair in pairs if not pair.names & set(verdict.controls)]  # controls have sentences of their own
    pairs.sort(key=lambda pair: (not pair.names <= set(verdict.candidates), abs(pair.difference)))
    lines += [_pair_sentence(pair, name, verdict.confidence) for pair in pairs[:MAXIMUM_PAIRS]]
    if len(verdict.losses) > 1 and not verdict.pairs:
        lines.append("All results are from one patient, so that the losses cannot be compared for others.")
    lines += _power_sentences(verdict, name)
    noise = verdict.noise_floor.get(metric)
    if noise is not None and noise.sd_between_seeds is not None:
        varies = amount(metric, noise.sd_between_seeds)
        lines.append(f"The mean {name} of one loss varies by {varies} (standard deviation) between seeds.")
    lines += [control_sentence(gap, verdict.confidence) for gap in verdict.aa if gap.metric == metric]
    lines += _scope(verdict)
    if verdict.operating_points is not None:
        lines += verdict.operating_points.words[:1]  # the command line prints the others after it
    return tuple(lines)


def _scope(verdict: Verdict) -> list[str]:
    """Return the conditions of the verdict; several budgets tell more than the slopes at the end of the curves."""
    scope, axis = verdict.scope, verdict.budgets
    if axis is None:
        return list(scope.words if scope else ()) or [UNKNOWN_SCOPE]
    return [*course_sentences(axis), (scope.conditions if scope else "") or UNKNOWN_SCOPE]


def _no_results(verdict: Verdict) -> str:
    if not verdict.set_aside:
        return NOTHING_IN_COMMON
    reasons = "; ".join(f"{name}: {why}" for name, why in verdict.set_aside.items())
    return f"No loss has results: {reasons}."


def _power_sentences(verdict: Verdict, name: str) -> list[str]:
    """Return the smallest difference that the study could find, and the size of a study that would decide."""
    if not verdict.replicated:
        return []
    lines = []
    detectable = verdict.smallest_detectable.get(verdict.primary)
    if detectable is not None:
        least = amount(verdict.primary, detectable)
        lines.append(
            f"A study like this one finds a difference of {least} with a probability of 80 %, and smaller differences "
            "less often."
        )
    elif verdict.pairs:
        lines.append(
            "This study has too few trainings or cases: it would rarely find even the largest possible difference in "
            f"{name}."
        )
    if verdict.more_needed:
        lines.append(needed_sentence(verdict.more_needed, verdict.cases))
    return lines


def control_sentence(gap: ControlGap, confidence: float) -> str:
    """Return the sentence about the difference between a loss and its control."""
    return (
        f"Two arms with the same loss ({gap.loss}, {gap.control}) differ by {amount(gap.metric, gap.difference)} of "
        f"{phrase(gap.metric)} ({100 * confidence:g} % interval {interval(gap.metric, gap.ci_low, gap.ci_high)})."
    )


def needed_sentence(needed: MoreNeeded, cases: int) -> str:
    """Return the sentence about the study that would decide; `cases` is the present number of cases."""
    ways = []
    if needed.cases:
        ways.append(f"{needed.cases:,} cases in total (now {cases:,})")
    if needed.seeds:
        ways.append(f"{needed.seeds:,} seeds (now {needed.seeds_now:,})")
    probability = f"{100 * needed.assurance:.0f} %"
    low, high = f"{100 * needed.assurance_low:.0f}", f"{100 * needed.assurance_high:.0f}"
    span = f"{low} to {high} %, depending on the true noise"
    if not ways and needed.assurance < NEGLIGIBLE_ASSURANCE:
        return "Even a study with ten times the cases and seeds would hardly decide."
    if not ways:
        return (
            "It is uncertain whether a larger study would decide: one with ten times the cases and seeds would do so "
            f"with a probability of about {probability} ({span})."
        )
    return (
        f"A new study with {(' and ' if needed.together else ' or ').join(ways)} would decide with a probability of "
        f"about {probability} ({span})."
    )


def _headline(verdict: Verdict, name: str) -> str:
    """Return the first sentence: the loss to use, and why."""
    recommended, cases = str(verdict.recommended), counted(verdict.cases, "case", "cases")
    if verdict.budgets is not None:
        cases = f"{cases} {per_run(verdict.budgets)}"
    result = verdict.result_of(recommended)
    collapse = result.collapse if result is not None and result.collapsed_runs else None
    warning = f" But {collapse_sentence(collapse, verdict.confidence)}." if collapse else ""
    alone = len(verdict.losses) - len(verdict.set_aside) - len(verdict.controls) < 2
    if alone and verdict.dropped:
        return (
            f"Use {recommended}: the race dropped all other losses ({', '.join(verdict.dropped)}), which were clearly "
            f"behind.{warning}"
        )
    if alone:
        return (
            f"Only one loss, {recommended}, has results that can be compared, so that there is no comparison.{warning}"
        )
    if not verdict.replicated:
        return (
            f"No verdict: each loss was trained once, and even two trainings of the same loss differ. On {cases}, "
            f"{verdict.candidates[0]} has the best mean {name}. Add folds or seeds, or state the noise of trainings "
            f"(--training-sd).{warning}"
        )
    if verdict.verdict == "winner":
        return f"Use {recommended}: on {cases}, its {name} is better than that of every other loss.{warning}"
    candidates = listed(sorted(verdict.candidates))
    pairs = verdict.primary_pairs
    margin = amount(verdict.primary, pairs[0].margin) if pairs else ""
    because = f": {REASONS[str(verdict.reason)]}" if verdict.reason in REASONS else ""
    if verdict.verdict == "equivalent":
        return f"On {cases}, the {name} of {candidates} is equal within {margin}. Use {recommended}{because}.{warning}"
    near = near_best(verdict.candidates, pairs)
    if len(near) == 1:
        because = ": its mean is the best"
    elif len(near) < len(verdict.candidates):
        because = because.replace("of them", f"of those within {margin} of the best mean")
    return (
        f"This study is inconclusive: it does not separate {candidates} by {name} on {cases}. Until a larger study "
        f"does, use {recommended}{because}.{warning}"
    )


def _pair_sentence(pair: PairResult, name: str, confidence: float) -> str:
    info = metric_of(pair.metric)
    gap = f"{pair.a} minus {pair.b}: {signed(info.factor * pair.difference)} {info.displayed_unit} of {name}"
    if info.is_uninformative(pair.ci_low, pair.ci_high):
        return (
            f"{gap}, but this study has too few trainings or cases to estimate the true difference: the interval "
            "contains every possible value."
        )
    span = interval(pair.metric, pair.ci_low, pair.ci_high)
    if not pair.replicated:
        return f"{gap} ({100 * confidence:g} % interval {span}, for the choice of patients alone)."
    return f"{gap} ({100 * confidence:g} % interval {span}; p {p_value(pair.p_holm)}, corrected for all pairs)."
