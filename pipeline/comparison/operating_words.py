"""Loss or threshold, in sentences that need no statistics to be read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.comparison.words import signed

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


def sentences_of_points(
    losses: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], recommended: str, by: str
) -> list[str]:
    """Return what becomes of the recommended loss's differences, then the pairs, then the thresholds."""
    said = []
    for says, text in GROUPS.items():
        names = [str(entry["b"]) for entry in pairs if entry["says"] == says]
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
    for entry in pairs[:MOST_NAMES]:
        half, best = entry["at_half"], entry["at_best"]
        sentences.append(
            f"{recommended} minus {entry['b']}: {signed(100 * half['difference'])} points of Dice at 0.5, "
            f"{signed(100 * best['difference'])} at the best thresholds (changed by {signed(100 * entry['change'])}): "
            f"{entry['says']}."
        )
    where = "the other folds" if by == "fold" else "the other patients"
    chosen = "; ".join(f"{entry['name']} {_range(entry)}" for entry in losses[:MOST_NAMES])
    sentences.append(f"Best thresholds, chosen on the cases of {where}: {chosen}.")
    edge = [str(entry["name"]) for entry in losses if entry["at_edge"]]
    if edge:
        sentences.append(f"At the end of the thresholds tried, so that a better one may lie beyond: {', '.join(edge)}.")
    return sentences


def caveats_of_points(pairs: Sequence[Mapping[str, Any]], recommended: str) -> list[str]:
    """Return what puts the recommendation in another light."""
    gone = [
        str(entry["b"])
        for entry in pairs
        if entry["says"] == "disappears" and entry["at_half"]["better"] == recommended
    ]
    beaten = [str(entry["b"]) for entry in pairs if entry["at_best"]["better"] == entry["b"]]
    said = []
    if gone:
        said.append(
            f"The lead of {recommended} over {', '.join(gone)} at a threshold of 0.5 disappears where every loss has "
            "its own best threshold: it is one of thresholds, which cost nothing to move."
        )
    if beaten:
        said.append(f"Where every loss has its own best threshold, {', '.join(beaten)} is clearly better by Dice.")
    return said


def _range(entry: Mapping[str, Any]) -> str:
    """Return the thresholds of a loss over folds and classes."""
    least = min(item["least"] for item in entry["thresholds"].values())
    largest = max(item["largest"] for item in entry["thresholds"].values())
    return f"{least:.2f}" if least == largest else f"{least:.2f} to {largest:.2f}"
