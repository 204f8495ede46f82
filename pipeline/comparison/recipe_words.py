"""Write the combined verdict on several recipes in sentences for readers without knowledge of statistics."""

from pipeline.comparison.phrases import amount, interval, listed, p_value, phrase, signed
from pipeline.comparison.sentences import needed_sentence
from pipeline.records.metrics import metric_of
from pipeline.records.recipes import Interaction, RecipesVerdict, Regret

MAXIMUM_PAIRS = 4
"""Number of interactions with a sentence of their own: those of recommended losses, then the largest."""

MAXIMUM_REGRETS = 2
"""Number of regrets with a sentence of their own, the largest first."""

CONCLUSIONS = {"holds": "holds", "differs": "differs", "cannot_tell": "cannot tell"}
"""Words for the answers to whether a result depends on the recipe."""

CHANGES = {
    "order": "each of them is clearly better under one recipe",
    "order uncertain": "the sign changes, but the difference is not clear under both recipes",
    "size": "the sign is the same, and the size changes",
}
"""Words for the kinds of a clear interaction."""


def recipe_sentences(verdict: RecipesVerdict) -> tuple[str, ...]:
    """Return the combined verdict as sentences, the most important first."""
    if len(verdict.recipes) < 2:
        return (_single(verdict),)
    lines = [_headline(verdict)]
    main = verdict.pairs_of(verdict.primary)
    chosen = {outcome.recommended for outcome in verdict.recipes}
    clear = [pair for pair in main if pair.verdict == "differs"]
    clear.sort(key=lambda pair: (not pair.losses <= chosen, -abs(pair.difference)))
    lines += [interaction_sentence(pair, verdict.confidence) for pair in clear[:MAXIMUM_PAIRS]]
    more = len(clear) - MAXIMUM_PAIRS
    if more > 0:
        lines.append(f"{more} more of the {len(main)} differences between losses depend on the recipe.")
    costs = sorted((item for item in verdict.regrets if item.loss != item.recommended), key=lambda item: -item.regret)
    lines += [_regret_sentence(item, verdict.confidence) for item in costs[:MAXIMUM_REGRETS]]
    lines += _power_sentences(verdict)
    return tuple(lines)


def recipe_caveats(verdict: RecipesVerdict) -> tuple[str, ...]:
    """Return what restricts the combined verdict."""
    lines = []
    if verdict.waiting:
        lines.append(f"Without results yet: {listed(verdict.waiting)}. The same command continues with them.")
    for outcome in verdict.recipes:
        missing = outcome.set_aside | outcome.dropped
        if missing:
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            lines.append(f"Not compared under {outcome.recipe}, and so in no interaction of it: {reasons}.")
        if outcome.collapsed:
            runs = ", ".join(f"{name} {count}" for name, count in outcome.collapsed.items())
            lines.append(f"Collapsed runs under {outcome.recipe}: {runs}. Their cases count as failures.")
    return tuple(lines)


def _single(verdict: RecipesVerdict) -> str:
    if not verdict.recipes:
        return "No recipe has results yet."
    name = verdict.recipes[0].recipe
    return f"Only the recipe {name} has results so far, so that recipes cannot be compared."


def _headline(verdict: RecipesVerdict) -> str:
    names = listed(verdict.names)
    every = "both recipes" if len(verdict.names) == 2 else f"all {len(verdict.names)} recipes"
    choices = "; ".join(f"under {item.recipe}, use {item.recommended or 'none'}" for item in verdict.recipes)
    if verdict.verdict == "holds" and verdict.recommended:
        return f"The verdict holds under {every} ({names}): use {verdict.recommended}."
    if verdict.verdict == "holds":
        return f"The verdict holds under {every}: the recommended losses are equal within the margin ({choices})."
    if verdict.verdict == "differs":
        return f"The verdict depends on the recipe: {choices}."
    if not verdict.pairs_of(verdict.primary):
        return f"Nothing can be compared between {names}: they do not share two losses and two patients with results."
    if not verdict.replicated:
        return (
            "No verdict on the recipes: each loss was trained once, and even two trainings of the same loss differ. "
            "Add folds or seeds."
        )
    return f"This study cannot tell whether the verdict depends on the recipe ({choices})."


def interaction_sentence(pair: Interaction, confidence: float) -> str:
    """Return the sentence about one clear interaction."""
    info = metric_of(pair.metric)
    first, second = (f"{signed(info.factor * one.difference)}" for one in (pair.first, pair.second))
    kind = CHANGES[pair.change] if pair.change else "the difference does not clearly change"
    return (
        f"{pair.a} minus {pair.b}: {first} {info.displayed_unit} of {phrase(pair.metric)} under {pair.first.recipe}, "
        f"{second} under {pair.second.recipe}. The change of {signed(info.factor * pair.difference)} "
        f"({100 * confidence:g} % interval {_double_interval(pair)}; p {p_value(pair.p_holm)}, corrected for all "
        f"pairs) is clear: {kind}."
    )


def _double_interval(pair: Interaction) -> str:
    """Return the interval of a double difference; its possible range is twice that of a difference."""
    info = metric_of(pair.metric)
    low, high = possible_double_interval(pair)
    return f"{signed(info.factor * low)} to {signed(info.factor * high)}"


def possible_double_interval(pair: Interaction) -> tuple[float, float]:
    """Return the part of the interval of a double difference that the metric allows, in the metric's unit."""
    largest = metric_of(pair.metric).largest
    if largest is None:
        return pair.ci_low, pair.ci_high
    return max(pair.ci_low, -2 * largest), min(pair.ci_high, 2 * largest)


def _regret_sentence(item: Regret, confidence: float) -> str:
    info = metric_of(item.metric)
    span = interval(item.metric, item.ci_low, item.ci_high)
    effect = "costs" if item.regret >= 0 else "gains"
    clear = "" if item.clear or item.regret < 0 else ", not clearly more than 0"
    within = ", within the margin" if item.within_margin else clear
    return (
        f"Under {item.used_under}, {item.loss} (recommended under {item.chosen_under}) {effect} "
        f"{amount(item.metric, item.regret)} of {info.phrase} against {item.recommended} "
        f"({100 * confidence:g} % interval {span}{within})."
    )


def _power_sentences(verdict: RecipesVerdict) -> list[str]:
    """Return the smallest interaction that the study could find, and the size of a study that would decide."""
    if not verdict.replicated or not verdict.pairs_of(verdict.primary):
        return []
    detectable = verdict.smallest_detectable.get(verdict.primary)
    if detectable is None:
        return [
            "This study has too few trainings or cases: it would rarely find even the largest possible change of a "
            "difference between recipes."
        ]
    if detectable == 0:  # the same trainings under every recipe
        return []
    lines = [
        f"A study like this one finds a change of a difference between recipes of "
        f"{amount(verdict.primary, detectable)} with a probability of 80 %, and smaller changes less often."
    ]
    if verdict.more_needed is not None:
        needed = needed_sentence(verdict.more_needed, verdict.cases)
        lines.append(f"Do the differences between these losses depend on the recipe? {needed}")
    return lines
