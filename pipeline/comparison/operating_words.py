"""Write the operating points in sentences."""

from collections.abc import Collection, Sequence

from pipeline.comparison.phrases import listed, signed
from pipeline.records.operating_points import OperatingPair, OperatingPoint, OperatingPoints

MAXIMUM_NAMES = 8
"""Number of losses whose thresholds and pairs have sentences of their own."""

TITLE = "Loss or threshold?"
"""Beginning of the first sentence."""

CLAUSES = {
    "stays": "the difference of {loss} from {others} remains",
    "disappears": "the difference of {loss} from {others} disappears (it was an effect of thresholds)",
    "shrinks": "the difference of {loss} from {others} shrinks and is no longer clear",
    "turns": "the difference of {loss} from {others} changes sign",
    "appears": "a difference of {loss} from {others} appears that was not clear at 0.5",
    "no longer clear": "the difference of {loss} from {others} is no longer clear, but is not shown to be gone",
}
"""Clause for each kind of change."""


def with_words(points: OperatingPoints, recommended: str, controls: Collection[str] = ()) -> OperatingPoints:
    """Return the operating points with their sentences and caveats; pairs with controls have none."""
    pairs = [pair for pair in points.pairs if pair.b not in controls]
    words = sentences_of_points(points, pairs, recommended)
    return points.model_copy(update={"words": tuple(words), "caveats": tuple(caveats_of_points(pairs, recommended))})


def sentences_of_points(points: OperatingPoints, pairs: Sequence[OperatingPair], recommended: str) -> list[str]:
    """Return the changes of the recommended loss's differences, then each pair, then the thresholds."""
    clauses = []
    for kind, clause in CLAUSES.items():
        names = [pair.b for pair in pairs if pair.says == kind]
        if names:
            more = [f"{len(names) - MAXIMUM_NAMES} more"] if len(names) > MAXIMUM_NAMES else []
            clauses.append(clause.format(loss=recommended, others=listed([*names[:MAXIMUM_NAMES], *more])))
    if clauses:
        sentences = [f"{TITLE} With every loss at its own best threshold instead of 0.5, {'; '.join(clauses)}."]
    else:
        sentences = [
            f"{TITLE} {recommended} is not clearly different in Dice from any other loss, neither at 0.5 nor with "
            "every loss at its own best threshold."
        ]
    sentences += [_pair_sentence(pair) for pair in pairs[:MAXIMUM_NAMES]]
    where = "the other folds" if points.chosen_without == "the fold's own cases" else "the other patients"
    chosen = "; ".join(f"{loss.name} {_range(loss)}" for loss in points.losses[:MAXIMUM_NAMES])
    sentences.append(f"Best thresholds, chosen on the cases of {where}: {chosen}.")
    edge = [loss.name for loss in points.losses if loss.at_edge]
    if edge:
        sentences.append(
            f"The best threshold of {listed(edge)} lies at the end of the grid, so that a better one may lie beyond it."
        )
    return sentences


def caveats_of_points(pairs: Sequence[OperatingPair], recommended: str) -> list[str]:
    """Return the changes that weaken the recommendation."""
    gone = [pair.b for pair in pairs if pair.says == "disappears" and pair.at_half.better == recommended]
    beaten = [pair.b for pair in pairs if pair.at_best.better == pair.b]
    caveats = []
    if gone:
        caveats.append(
            f"The lead of {recommended} over {listed(gone)} at a threshold of 0.5 disappears if every loss has its own "
            "best threshold: it is an effect of thresholds, which can be changed at no cost."
        )
    if beaten:
        verb = "is" if len(beaten) == 1 else "are"
        caveats.append(f"With every loss at its own best threshold, {listed(beaten)} {verb} clearly better by Dice.")
    return caveats


def _pair_sentence(pair: OperatingPair) -> str:
    half, best, change = (
        signed(100 * value) for value in (pair.at_half.difference, pair.at_best.difference, pair.change)
    )
    return (
        f"{pair.a} minus {pair.b}: {half} points of Dice at 0.5, {best} at the best thresholds (change {change}): "
        f"{pair.says}."
    )


def _range(loss: OperatingPoint) -> str:
    """Return the thresholds of a loss over folds and classes."""
    least = min(item.least for item in loss.thresholds.values())
    largest = max(item.largest for item in loss.thresholds.values())
    return f"{least:.2f}" if least == largest else f"{least:.2f} to {largest:.2f}"
