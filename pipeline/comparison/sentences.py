"""The verdict in sentences that need no statistics to be read, with the numbers."""

from pipeline.comparison.bounds import says_nothing
from pipeline.comparison.caveats import collapse_sentence
from pipeline.comparison.pairs import near_best
from pipeline.comparison.phrases import amount, counted, interval, listed, p_value, phrase, signed
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import ControlGap, MoreNeeded, Verdict

MOST_PAIRS = 4
"""Pairs that get a sentence: first those of the losses left standing, then the closest."""

UNKNOWN_SCOPE = "The table does not tell under which conditions (steps, optimizer, network) these trainings ran."

HOPELESS = 0.05
"""Below this assurance its figures are not worth reading."""

REASONS = {
    "front": "no other of them is better in both Dice and 95 % Hausdorff distance",
    "harmless": "the others are clearly worse in another metric",
    "robust": "its trainings collapsed least often",
    "steady": "its trainings vary least",
    "simplest": "it is the simplest of them",
    "best mean": "its mean is the best",
}
"""Why one of several losses is recommended."""


def sentences(verdict: Verdict) -> tuple[str, ...]:
    """Return the verdict as sentences, the most important first."""
    if not verdict.primary:
        return (_no_results(verdict), *(verdict.scope.words if verdict.scope else ()))
    metric, recommended = verdict.primary, str(verdict.recommended)
    name = phrase(metric)
    said = [_headline(verdict, name)]
    pairs = [pair.seen_from(recommended) for pair in verdict.primary_pairs if recommended in pair.names]
    pairs = [pair for pair in pairs if not pair.names & set(verdict.controls)]  # those have sentences of their own
    pairs.sort(key=lambda pair: (not pair.names <= set(verdict.candidates), abs(pair.difference)))
    said += [_pair_sentence(pair, name, verdict.confidence) for pair in pairs[:MOST_PAIRS]]
    if len(verdict.losses) > 1 and not verdict.pairs:
        said.append("All results are of one patient: they do not tell how the losses compare on others.")
    said += _power_sentences(verdict, name)
    noise = verdict.noise_floor.get(metric)
    if noise is not None and noise.sd_between_seeds is not None:
        moves = amount(metric, noise.sd_between_seeds)
        said.append(f"Between two seeds of the same loss the mean {name} moves by {moves} (standard deviation).")
    said += [control_sentence(gap, verdict.confidence) for gap in verdict.aa if gap.metric == metric]
    said += (verdict.scope.words if verdict.scope else ()) or (UNKNOWN_SCOPE,)
    if verdict.operating_points is not None:
        said += verdict.operating_points.words[:1]  # the command line prints the rest behind it
    return tuple(said)


def _no_results(verdict: Verdict) -> str:
    if not verdict.set_aside:
        return "There is nothing to compare yet: no case has results of two losses."
    reasons = "; ".join(f"{name}: {why}" for name, why in verdict.set_aside.items())
    return f"No loss has results: {reasons}."


def _power_sentences(verdict: Verdict, name: str) -> list[str]:
    """Return what the study could have found, and what would decide."""
    if not verdict.replicated:
        return []
    said = []
    detectable = verdict.smallest_detectable.get(verdict.primary)
    if detectable is not None:
        least = amount(verdict.primary, detectable)
        said.append(
            f"A study like this one finds a difference of {least} in 8 of 10 tries, and smaller ones less often."
        )
    elif verdict.pairs:
        said.append(
            "This study has too few trainings or cases: it would rarely find even the largest possible difference in "
            f"{name}."
        )
    if verdict.more_needed:
        said.append(_needed_sentence(verdict.more_needed, verdict.cases))
    return said


def control_sentence(gap: ControlGap, confidence: float) -> str:
    """Return the gap between a loss and its control."""
    return (
        f"Two arms of the very same loss ({gap.loss}, {gap.control}) differ by {amount(gap.metric, gap.difference)} of "
        f"{phrase(gap.metric)} here ({100 * confidence:g} % interval {interval(gap.metric, gap.ci_low, gap.ci_high)})."
    )


def _needed_sentence(needed: MoreNeeded, cases: int) -> str:
    ways = []
    if needed.cases:
        ways.append(f"{needed.cases:,} cases in all (now {cases:,})")
    if needed.seeds:
        ways.append(f"{needed.seeds:,} seeds (now {needed.seeds_now:,})")
    sure = f"{100 * needed.assurance:.0f} %"
    low, high = f"{100 * needed.assurance_low:.0f}", f"{100 * needed.assurance_high:.0f}"
    if not ways and needed.assurance < HOPELESS:
        return "Even ten times the cases and seeds would hardly decide."
    if not ways:
        return (
            "This study cannot promise that a larger one would decide: ten times the cases and seeds would with a "
            f"probability of about {sure} ({low} to {high} % for the noise that this study leaves open)."
        )
    return (
        f"A new study with {(' and ' if needed.together else ' or ').join(ways)} would decide with a probability of "
        f"about {sure} ({low} to {high} % for the noise that this study leaves open)."
    )


def _headline(verdict: Verdict, name: str) -> str:
    recommended, cases = str(verdict.recommended), counted(verdict.cases, "case", "cases")
    result = verdict.result_of(recommended)
    collapse = result.collapse if result is not None and result.collapsed_runs else None
    but = f" But {collapse_sentence(collapse, verdict.confidence)}." if collapse else ""
    alone = len(verdict.losses) - len(verdict.set_aside) - len(verdict.controls) < 2
    if alone and verdict.dropped:
        gone = ", ".join(verdict.dropped)
        return f"Use {recommended}: the race dropped all other losses as clearly behind: {gone}.{but}"
    if alone:
        return (
            f"Only one loss, {recommended}, has results that can be compared: there is nothing to compare it with.{but}"
        )
    if not verdict.replicated:
        return (
            f"No verdict: each loss was trained once, and two trainings of the same loss already differ. On {cases} "
            f"{_best_mean(verdict)} has the best mean {name}. Add folds or seeds, or state the noise of trainings "
            f"(--training-sd).{but}"
        )
    if verdict.verdict == "winner":
        return f"Use {recommended}: on {cases} its {name} is better than that of every other loss.{but}"
    candidates = listed(sorted(verdict.candidates))
    pairs = verdict.primary_pairs
    margin = amount(verdict.primary, pairs[0].margin) if pairs else ""
    because = f": {REASONS[str(verdict.reason)]}" if verdict.reason in REASONS else ""
    if verdict.verdict == "equivalent":
        return f"On {cases} the {name} of {candidates} is the same within {margin}. Use {recommended}{because}.{but}"
    bets = near_best(verdict.candidates, pairs)
    if len(bets) == 1:
        because = ": its mean is the best"
    elif len(bets) < len(verdict.candidates):
        because = because.replace("of them", f"of those within {margin} of the best mean")
    return (
        f"This study cannot tell {candidates} apart by {name} on {cases}. Until one can, take "
        f"{recommended}{because}.{but}"
    )


def _best_mean(verdict: Verdict) -> str:
    return verdict.candidates[0]


def _pair_sentence(pair: PairResult, name: str, confidence: float) -> str:
    info = metric_of(pair.metric)
    gap = f"{pair.a} minus {pair.b}: {signed(info.factor * pair.difference)} {info.displayed_unit} of {name}"
    if says_nothing(pair.metric, pair.ci_low, pair.ci_high):
        return (
            f"{gap} here, but this study has too few trainings or cases to say anything of the true difference: its "
            "interval holds every possible one."
        )
    span = interval(pair.metric, pair.ci_low, pair.ci_high)
    if not pair.replicated:
        return f"{gap} ({100 * confidence:g} % interval {span}, from the choice of patients alone)."
    return f"{gap} ({100 * confidence:g} % interval {span}; p {p_value(pair.p_holm)}, corrected for all pairs)."
