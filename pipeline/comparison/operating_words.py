"""Sentences about operating points."""

from collections.abc import Collection, Sequence

from pipeline.comparison.phrases import signed
from pipeline.records.operating_points import OperatingPair, OperatingPoint, OperatingPoints

MOST_NAMES = 8
"""Losses whose thresholds or pairs get words of their own."""

GROUPS = {
    "stays": "its difference from {names} stays",
    "disappears": "its difference from {names} disappears: that was one of thresholds",
    "shrinks": "its difference from {names} shrinks and is no longer clear",
    "turns": "its difference from {names} turns around",
    "appears": "a difference from {names} appears that 0.5 did not show",
    "no longer clear": "its difference from {names} is no longer clear, nor shown to be gone",
}


def with_words(points: OperatingPoints, recommended: str, controls: Collection[str] = ()) -> OperatingPoints:
    """Return operating points with their sentences and caveats; pairs with controls get none."""
    pairs = [pair for pair in points.pairs if pair.b not in controls]
    words = sentences_of_points(points, pairs, recommended)
    return points.model_copy(update={"words": tuple(words), "caveats": tuple(caveats_of_points(pairs, recommended))})


def sentences_of_points(points: OperatingPoints, pairs: Sequence[OperatingPair], recommended: str) -> list[str]:
    """Return what becomes of the recommended loss's differences, then the pairs, then the thresholds."""
    said = []
    for says, text in GROUPS.items():
        names = [pair.b for pair in pairs if pair.says == says]
        if names:
            shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES))
            said.append(text.format(names=shown))
    if said:
        first = f"Loss or threshold? With every loss at its own best threshold instead of 0.5, for {recommended} "
        sentences = [first + "; ".join(said) + "."]
    else:
        sentences = [
            f"Loss or threshold? Neither at 0.5 nor with every loss at its own best threshold is {recommended} "
            "clearly different in Dice from any other loss."
        ]
    for pair in pairs[:MOST_NAMES]:
        sentences.append(
            f"{recommended} minus {pair.b}: {signed(100 * pair.at_half.difference)} points of Dice at 0.5, "
            f"{signed(100 * pair.at_best.difference)} at the best thresholds (changed by {signed(100 * pair.change)}): "
            f"{pair.says}."
        )
    where = "the other folds" if points.chosen_without == "the fold's own cases" else "the other patients"
    chosen = "; ".join(f"{loss.name} {_range(loss)}" for loss in points.losses[:MOST_NAMES])
    sentences.append(f"Best thresholds, chosen on the cases of {where}: {chosen}.")
    edge = [loss.name for loss in points.losses if loss.at_edge]
    if edge:
        sentences.append(f"At the end of the thresholds tried, so that a better one may lie beyond: {', '.join(edge)}.")
    return sentences


def caveats_of_points(pairs: Sequence[OperatingPair], recommended: str) -> list[str]:
    """Return what puts the recommendation in another light."""
    gone = [pair.b for pair in pairs if pair.says == "disappears" and pair.at_half.better == recommended]
    beaten = [pair.b for pair in pairs if pair.at_best.better == pair.b]
    said = []
    if gone:
        said.append(
            f"The lead of {recommended} over {', '.join(gone)} at a threshold of 0.5 disappears where every loss has "
            "its own best threshold: it is one of thresholds, which cost nothing to move."
        )
    if beaten:
        said.append(f"Where every loss has its own best threshold, {', '.join(beaten)} is clearly better by Dice.")
    return said


def _range(loss: OperatingPoint) -> str:
    """Return the thresholds of a loss over folds and classes."""
    least = min(item.least for item in loss.thresholds.values())
    largest = max(item.largest for item in loss.thresholds.values())
    return f"{least:.2f}" if least == largest else f"{least:.2f} to {largest:.2f}"
