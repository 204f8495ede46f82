"""The verdict in sentences that need no statistics to be read, with the numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.comparison.limits import possible, says_nothing
from pipeline.comparison.pairs import Comparison, near_best

if TYPE_CHECKING:
    from pipeline.comparison.verdict import Verdict

NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "hausdorff_mm": "Hausdorff distance",
    "hausdorff95_mm": "95 % Hausdorff distance",
    "assd_mm": "mean surface distance",
    "nsd": "surface Dice",
}


MOST_PAIRS = 4
"""Pairs that get a sentence: first those of the losses left standing, then the closest."""


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
    """Return a difference in the unit that people use: points for shares, mm for distances."""
    return f"{abs(value):.2f} mm" if metric.endswith("_mm") else f"{100 * abs(value):.2f} points"


def sentences(verdict: "Verdict") -> list[str]:
    """Return the verdict as sentences, the most important first."""
    metric, cases, recommended = verdict.primary, verdict.cases, str(verdict.recommended)
    name = NAMES.get(metric, metric)
    said = [_headline(verdict, name)]
    mine = [e for e in verdict.pairs if e["metric"] == metric and recommended in (e["a"], e["b"])]
    mine = [entry for entry in mine if not {entry["a"], entry["b"]} & set(verdict.controls)]  # said at the end
    mine.sort(key=lambda entry: (not {entry["a"], entry["b"]} <= set(verdict.candidates), abs(entry["difference"])))
    said += [_pair_sentence(entry, recommended, name, verdict.confidence) for entry in mine[:MOST_PAIRS]]
    if len(verdict.losses) > 1 and not verdict.pairs:
        said.append("All results are of one patient: how far one case speaks for others cannot be told.")
    detectable = verdict.smallest_detectable.get(metric)
    if detectable is not None:
        least = amount(metric, detectable)
        said.append(f"The smallest difference that this study would have found in 8 of 10 tries is {least}.")
    elif verdict.pairs:
        said.append(
            f"No difference in {name} that is possible would have been found by this study in 8 of 10 tries: "
            "it has too few trainings or cases."
        )
    if verdict.more_needed:
        said.append(_needed_sentence(verdict.more_needed, cases))
    noise = verdict.noise_floor.get(metric, {}).get("sd_between_seeds")
    if noise is not None:
        moves = amount(metric, noise)
        said.append(f"Between two seeds of one and the same loss the {name} moves by {moves} (standard deviation).")
    said += [control_sentence(entry, verdict.confidence) for entry in verdict.aa if entry["metric"] == metric]
    said += verdict.operating_points.get("words", [])[:1]
    return said


def control_sentence(entry: Mapping[str, Any], confidence: float) -> str:
    """Return the gap between a loss and its control."""
    metric = entry["metric"]
    gap = amount(metric, entry["difference"])
    span = _span(metric, entry["ci_low"], entry["ci_high"])
    return (
        f"Two arms of the very same loss ({entry['loss']}, {entry['control']}) differ by {gap} of "
        f"{NAMES.get(metric, metric)} here ({100 * confidence:g} % interval {span})."
    )


def _span(metric: str, low: float, high: float) -> str:
    """Return the part of an interval that the metric allows."""
    low, high = possible(metric, low, high)
    factor = 1.0 if metric.endswith("_mm") else 100.0
    return f"{signed(factor * low)} to {signed(factor * high)}"


def _needed_sentence(needed: Mapping[str, Any], cases: int) -> str:
    ways = []
    if needed["cases"]:
        ways.append(f"{needed['cases']:,} cases in all (now {cases:,})")
    if needed["seeds"]:
        ways.append(f"{needed['seeds']:,} seeds (now {needed['seeds_now']:,})")
    if not ways:
        return "The gap is too close to the margin for more cases or seeds to decide."
    aim = {
        "difference": "if the gap is as large as it looks",
        "equivalence": "by showing that the gap does not matter",
    }.get(needed["aim"], "if the gaps are as they look")
    return f"About {(' and ' if needed['together'] else ' or ').join(ways)} would decide, {aim}."


def caveats_of(
    main: Comparison,
    pairs: Sequence[Mapping[str, Any]],
    recommended: str,
    collapsed: Mapping[str, int],
    aside: Mapping[str, str],
    controls: Mapping[str, str],
) -> list[str]:
    """Return what a reader has to know before trusting the verdict."""
    paired, metric = main.paired, main.paired.metric
    said = []
    if paired.seeds.shape[1] < 2:
        said.append("One seed only: the noise between two trainings of one loss shows through the folds alone.")
    if np.unique(paired.folds).size < 2:
        said.append(
            "No folds in the table: differences between trainings are "
            + ("not part of the intervals." if paired.seeds.shape[1] < 2 else "known from the seeds alone.")
        )
    if main.units.fold_count == 2:
        said.append("Two folds are two trainings: intervals are wide. Five folds, or more seeds, tell far more.")
    said += [
        f"{runs} runs of {name} collapsed and are left out of its means."
        if runs > 1
        else f"One run of {name} collapsed and is left out of its means."
        for name, runs in collapsed.items()
    ]
    said += [f"{name} takes no part in the comparison: {why}." for name, why in aside.items()]
    if paired.left_out:
        said.append(
            f"{paired.left_out} value(s) of {NAMES.get(metric, metric)} are missing for some loss; "
            "those classes of those cases are left out for all."
        )
    ahead: dict[str, list[str]] = {}
    for entry in pairs:
        against = entry["metric"] != metric and recommended in (entry["a"], entry["b"]) and not entry["equivalent"]
        if against and entry["better"] not in (None, recommended, *controls):
            ahead.setdefault(entry["metric"], []).append(entry["better"])
    said += [
        f"{recommended} is worse than {', '.join(names)} by {NAMES.get(name, name)}: weigh what matters to you."
        for name, names in ahead.items()
    ]
    said += [
        f"{entry['a']} and {entry['b']} are the very same loss and yet differ clearly by "
        f"{NAMES.get(entry['metric'], entry['metric'])}: chance "
        "does that in 1 of 20 comparisons; trust no gap of that size here."
        for entry in pairs
        if entry["better"] and (controls.get(entry["a"]) == entry["b"] or controls.get(entry["b"]) == entry["a"])
    ]
    return said


def _headline(verdict: "Verdict", name: str) -> str:
    recommended, cases = verdict.recommended, counted(verdict.cases, "case", "cases")
    alone = len(verdict.losses) - len(verdict.set_aside) - len(verdict.controls) < 2
    if alone and verdict.dropped:
        gone = ", ".join(verdict.dropped)
        return f"Use {recommended}: it is what the race has left; dropped as clearly behind: {gone}."
    if alone:
        return f"Only one loss, {recommended}, has results that can be compared: there is nothing to compare it with."
    if verdict.verdict == "winner":
        return f"Use {recommended}: on {cases} its {name} is better than that of every other loss."
    candidates = _listed(sorted(verdict.candidates))
    entries = [entry for entry in verdict.pairs if entry["metric"] == verdict.primary]
    margin = amount(verdict.primary, entries[0]["margin"]) if entries else ""
    if verdict.verdict == "equivalent":
        return f"Use {recommended}, the simplest of {candidates}: on {cases} their {name} is the same within {margin}."
    bets = near_best(verdict.candidates, entries)
    if len(bets) == 1:
        why = "whose mean is the best"
    elif len(bets) == len(verdict.candidates):
        why = "the simplest of them"
    else:
        why = f"the simplest of those within {margin} of the best mean"
    return f"This study cannot tell {candidates} apart by {name} on {cases}; until one can, take {recommended}, {why}."


def _listed(names: Sequence[str]) -> str:
    """Return names as one writes them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _pair_sentence(entry: Mapping[str, Any], recommended: str, name: str, confidence: float) -> str:
    low, high, mean = entry["ci_low"], entry["ci_high"], entry["difference"]
    other = entry["b"]
    if entry["a"] != recommended:
        other, low, high, mean = entry["a"], -high, -low, -mean
    unit, factor = ("mm", 1.0) if entry["metric"].endswith("_mm") else ("points", 100.0)
    if says_nothing(entry["metric"], low, high):
        return (
            f"{recommended} minus {other}: {signed(factor * mean)} {unit} of {name} here, but this study has too few "
            "trainings or cases to say anything of the true difference: its interval holds every possible one."
        )
    span = _span(entry["metric"], low, high)
    return (
        f"{recommended} minus {other}: {signed(factor * mean)} {unit} of {name} "
        f"({100 * confidence:g} % interval {span}; corrected p {p_value(entry['p_holm'])})."
    )
