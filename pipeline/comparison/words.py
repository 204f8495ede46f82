"""The verdict in sentences that need no statistics to be read, with the numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.comparison.bounds import possible, says_nothing
from pipeline.comparison.pairs import Comparison, near_best
from pipeline.records.metrics import metric_of

if TYPE_CHECKING:
    from pipeline.comparison.verdict import Verdict

MOST_PAIRS = 4
"""Pairs that get a sentence: first those of the losses left standing, then the closest."""

UNKNOWN_SCOPE = "The table does not tell under which conditions (steps, optimizer, network) these trainings ran."

MIXED = "Mean and typical case disagree"
"""Beginning of a caveat that must not be overlooked."""

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


def phrase(metric: str) -> str:
    """Return the name of a metric inside a sentence."""
    return metric_of(metric).phrase


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign; one that rounds to 0.00 keeps a digit, and 0 has no sign.

    An interval that ends at -0.004 does not hold 0, and an end of "-0.00" would leave that open.
    """
    for places in range(digits, digits + 3):
        shown = f"{value:+.{places}f}"
        if float(shown) != 0:
            return shown
    return f"{0:.{digits}f}"


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def p_value(value: float) -> str:
    """Return a p value with its sign of relation, as papers print it."""
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def amount(metric: str, value: float) -> str:
    """Return a difference without its sign in the unit that people use: points for shares, mm, mL.

    Examples
    --------
    >>> amount("dice", -0.0123), amount("volume_error_ml", 1.5)
    ('1.23 points', '1.50 mL')
    """
    info = metric_of(metric)
    return f"{info.factor * abs(value):.2f} {info.displayed_unit}".rstrip()


def listed(names: Sequence[str]) -> str:
    """Return names as one writes them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sentences(verdict: "Verdict") -> list[str]:
    """Return the verdict as sentences, the most important first."""
    metric, recommended = verdict.primary, str(verdict.recommended)
    name = phrase(metric)
    said = [_headline(verdict, name)]
    mine = [e for e in verdict.pairs if e["metric"] == metric and recommended in (e["a"], e["b"])]
    mine = [entry for entry in mine if not {entry["a"], entry["b"]} & set(verdict.controls)]  # said at the end
    mine.sort(key=lambda entry: (not {entry["a"], entry["b"]} <= set(verdict.candidates), abs(entry["difference"])))
    said += [_pair_sentence(entry, recommended, name, verdict.confidence) for entry in mine[:MOST_PAIRS]]
    if len(verdict.losses) > 1 and not verdict.pairs:
        said.append("All results are of one patient: they do not tell how the losses compare on others.")
    said += _power_sentences(verdict, name)
    noise = verdict.noise_floor.get(metric, {}).get("sd_between_seeds")
    if noise is not None:
        moves = amount(metric, noise)
        said.append(f"Between two seeds of the same loss the mean {name} moves by {moves} (standard deviation).")
    said += [control_sentence(entry, verdict.confidence) for entry in verdict.aa if entry["metric"] == metric]
    said += verdict.scope.get("words") or [UNKNOWN_SCOPE]
    said += verdict.operating_points.get("words", [])[:1]  # `print_verdict` adds the rest of these behind it
    return said


def _power_sentences(verdict: "Verdict", name: str) -> list[str]:
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


def control_sentence(entry: Mapping[str, Any], confidence: float) -> str:
    """Return the gap between a loss and its control."""
    metric = entry["metric"]
    gap = amount(metric, entry["difference"])
    span = _span(metric, entry["ci_low"], entry["ci_high"])
    return (
        f"Two arms of the very same loss ({entry['loss']}, {entry['control']}) differ by {gap} of "
        f"{phrase(metric)} here ({100 * confidence:g} % interval {span})."
    )


def _span(metric: str, low: float, high: float) -> str:
    """Return the part of an interval that the metric allows."""
    low, high = possible(metric, low, high)
    factor = metric_of(metric).factor
    return f"{signed(factor * low)} to {signed(factor * high)}"


def _needed_sentence(needed: Mapping[str, Any], cases: int) -> str:
    ways = []
    if needed["cases"]:
        ways.append(f"{needed['cases']:,} cases in all (now {cases:,})")
    if needed["seeds"]:
        ways.append(f"{needed['seeds']:,} seeds (now {needed['seeds_now']:,})")
    sure = f"{100 * needed['assurance']:.0f} %"
    low, high = (f"{100 * needed[f'assurance_{end}']:.0f}" for end in ("low", "high"))
    if not ways and needed["assurance"] < HOPELESS:
        return "Even ten times the cases and seeds would hardly decide."
    if not ways:
        return (
            "This study cannot promise that a larger one would decide: ten times the cases and seeds would with a "
            f"probability of about {sure} ({low} to {high} % for the noise that this study leaves open)."
        )
    return (
        f"A new study with {(' and ' if needed['together'] else ' or ').join(ways)} would decide with a probability of "
        f"about {sure} ({low} to {high} % for the noise that this study leaves open)."
    )


def caveats_of(verdict: "Verdict", compared: Mapping[str, Comparison]) -> list[str]:
    """Return what a reader has to know before trusting the verdict."""
    main = compared[verdict.primary]
    return [
        *_caveats_of_design(verdict, main),
        *_caveats_of_failures(verdict, compared),
        *_caveats_of_pairs(verdict),
    ]


def _caveats_of_design(verdict: "Verdict", main: Comparison) -> list[str]:
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


def _caveats_of_failures(verdict: "Verdict", compared: Mapping[str, Comparison]) -> list[str]:
    """Return collapsed trainings, losses set aside, and values that are missing."""
    said = [
        f"{name}: {collapse_sentence(entry['collapse'], verdict.confidence)}; they count as failures in every case."
        for entry in verdict.losses
        if (name := entry["name"]) and entry["collapsed_runs"]
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


def collapse_sentence(collapse: Mapping[str, Any], confidence: float) -> str:
    """Return how many trainings of a loss collapsed, with the interval of that probability."""
    low, high = (f"{100 * collapse[end]:.0f}" for end in ("ci_low", "ci_high"))
    return (
        f"{collapse['runs']} of {counted(collapse['of'], 'training', 'trainings')} collapsed "
        f"(probability of collapse: {100 * confidence:g} % interval {low} to {high} %)"
    )


def _caveats_of_pairs(verdict: "Verdict") -> list[str]:
    metric, recommended, controls = verdict.primary, verdict.recommended, verdict.controls
    said = []
    ahead: dict[str, list[str]] = {}
    for entry in verdict.pairs:
        against = entry["metric"] != metric and recommended in (entry["a"], entry["b"]) and not entry["equivalent"]
        if against and entry["better"] not in (None, recommended, *controls):
            ahead.setdefault(entry["metric"], []).append(entry["better"])
    said += [
        f"{recommended} is worse than {listed(names)} by {phrase(name)}: weigh what matters to you."
        for name, names in ahead.items()
    ]
    said += [_disagreement(entry) for entry in verdict.pairs if _worth_a_word(entry, verdict)]
    said += [
        f"{entry['a']} and {entry['b']} are the very same loss and yet differ clearly by {phrase(entry['metric'])}: "
        "chance does that in 1 of 20 studies; do not trust gaps of that size here."
        for entry in verdict.pairs
        if entry["better"] and (controls.get(entry["a"]) == entry["b"] or controls.get(entry["b"]) == entry["a"])
    ]
    return said


def _worth_a_word(entry: Mapping[str, Any], verdict: "Verdict") -> bool:
    of_interest = {entry["a"], entry["b"]} <= {*verdict.candidates, str(verdict.recommended)}
    return bool(entry["typical_case_disagrees"] and entry["metric"] == verdict.primary and of_interest)


def _disagreement(entry: Mapping[str, Any]) -> str:
    """Return that the mean favors one loss and most cases the other."""
    info = metric_of(entry["metric"])
    a_is_favored = (entry["difference"] > 0) == info.higher_is_better
    by_mean, other = (entry["a"], entry["b"]) if a_is_favored else (entry["b"], entry["a"])
    a_is_better = entry["superiority"] if info.higher_is_better else 1 - entry["superiority"]
    share = 1 - a_is_better if a_is_favored else a_is_better
    return (
        f"{MIXED}: the mean {info.phrase} favors {by_mean}, yet {other} is better in "
        f"{100 * share:.0f} % of cases and fails badly in a few. Look at the failures before choosing."
    )


def _headline(verdict: "Verdict", name: str) -> str:
    recommended, cases = str(verdict.recommended), counted(verdict.cases, "case", "cases")
    collapse = next((e["collapse"] for e in verdict.losses if e["name"] == recommended and e["collapsed_runs"]), None)
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
    entries = [entry for entry in verdict.pairs if entry["metric"] == verdict.primary]
    margin = amount(verdict.primary, entries[0]["margin"]) if entries else ""
    because = f": {REASONS[str(verdict.reason)]}" if verdict.reason in REASONS else ""
    if verdict.verdict == "equivalent":
        return f"On {cases} the {name} of {candidates} is the same within {margin}. Use {recommended}{because}.{but}"
    bets = near_best(verdict.candidates, entries)
    if len(bets) == 1:
        because = ": its mean is the best"
    elif len(bets) < len(verdict.candidates):
        because = because.replace("of them", f"of those within {margin} of the best mean")
    return (
        f"This study cannot tell {candidates} apart by {name} on {cases}. Until one can, take "
        f"{recommended}{because}.{but}"
    )


def _best_mean(verdict: "Verdict") -> str:
    return verdict.candidates[0]


def _pair_sentence(entry: Mapping[str, Any], recommended: str, name: str, confidence: float) -> str:
    low, high, mean = entry["ci_low"], entry["ci_high"], entry["difference"]
    other = entry["b"]
    if entry["a"] != recommended:
        other, low, high, mean = entry["a"], -high, -low, -mean
    info = metric_of(entry["metric"])
    gap = f"{recommended} minus {other}: {signed(info.factor * mean)} {info.displayed_unit} of {name}"
    if says_nothing(entry["metric"], low, high):
        return (
            f"{gap} here, but this study has too few trainings or cases to say anything of the true difference: its "
            "interval holds every possible one."
        )
    span = _span(entry["metric"], low, high)
    if not entry["replicated"]:
        return f"{gap} ({100 * confidence:g} % interval {span}, from the choice of patients alone)."
    return f"{gap} ({100 * confidence:g} % interval {span}; p {p_value(entry['p_holm'])}, corrected for all pairs)."
