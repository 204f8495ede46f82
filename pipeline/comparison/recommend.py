"""Recommend one of several losses that the deciding metric does not separate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.ranking import FRONT, pareto
from pipeline.records.loss_order import is_known, simplicity

Reason = Literal["alone", "front", "harmless", "robust", "steady", "simplest", "cheapest", "best mean"]
"""Step that left a single loss; `pipeline.comparison.sentences.REASONS` has the words."""

CLEARLY_NOISIER = 0.05
"""Level of the F test at which the trainings of one loss clearly vary more than those of another."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Recommended loss, and the step that excluded the last other loss."""

    loss: str
    reason: Reason


def recommend(
    candidates: Sequence[str],
    compared: Mapping[str, Comparison],
    primary: str,
    collapsed: Mapping[str, int],
    by_case: Sequence[str] = (),
    training_seconds: Mapping[str, float] | None = None,
) -> Choice:
    """Choose one of the candidates that the deciding metric does not separate.

    Each step retains some of the candidates, in this order: the Pareto front of Dice and 95 % Hausdorff distance; those
    that are not clearly worse in any other metric; the fewest collapsed trainings; trainings that do not clearly vary
    more. Of the rest, the simplest is chosen if all are losses in the registry; otherwise the one with the shortest
    trainings if their times are known, or else the one with the best mean.

    Parameters
    ----------
    candidates
        Losses that the deciding metric does not separate, best mean first.
    compared
        Comparison by each metric.
    primary
        The metric that decides.
    collapsed
        Collapsed runs of each loss.
    by_case
        Metrics that are ranked within cases for the Pareto front.
    training_seconds
        Mean time of a training of each loss, by which losses that are not in the registry are chosen.
    """
    main = compared[primary]
    left = _unbeaten(candidates, main)
    reason: Reason = "alone"
    if set(FRONT) <= set(compared):
        front = pareto({name: item.paired for name, item in compared.items()}, left, by_case)
        left, reason = _narrowed(left, [name for name in left if name in front], reason, "front")
    harmless = [name for name in left if not any(_harmed(name, left, item) for item in compared.values())]
    left, reason = _narrowed(left, harmless, reason, "harmless")
    fewest = min(collapsed.get(name, 0) for name in left)
    left, reason = _narrowed(left, [name for name in left if collapsed.get(name, 0) == fewest], reason, "robust")
    left, reason = _narrowed(left, _steady(left, main), reason, "steady")
    if len(left) == 1:
        return Choice(left[0], reason)
    known = [name for name in left if is_known(name)]
    if len(known) < len(left):
        seconds = training_seconds or {}
        if all(name in seconds for name in left):
            return Choice(min(left, key=lambda name: seconds[name]), "cheapest")
        return Choice(left[0], "best mean")
    return Choice(min(known, key=lambda name: simplicity(name)[0]), "simplest")


def _narrowed(left: list[str], retained: list[str], reason: Reason, step: Reason) -> tuple[list[str], Reason]:
    """Return the losses that a step retains, or all if it would retain none, and the last step that excluded any."""
    if not retained or len(retained) == len(left):
        return left, reason
    return retained, step


def _unbeaten(candidates: Sequence[str], main: Comparison) -> list[str]:
    """Return the candidates that no other candidate clearly beats, except by a difference within the margin."""
    beaten = {
        name
        for pair in main.pairs
        if pair.names <= set(candidates) and pair.better and not pair.equivalent
        for name in pair.names
        if name != pair.better
    }
    return [name for name in candidates if name not in beaten] or list(candidates)


def _harmed(name: str, among: Sequence[str], item: Comparison) -> bool:
    """Return whether another loss is clearly better than this one in a metric, and not only within the margin."""
    return any(
        pair.better not in (None, name) and pair.better in among and not pair.equivalent
        for pair in item.pairs
        if name in pair.names
    )


def _steady(left: Sequence[str], main: Comparison) -> list[str]:
    """Return the losses whose trainings do not clearly vary more than those of the most stable loss."""
    variance = {name: float(main.errors.of_loss[main.paired.losses.index(name)]) for name in left}
    degrees = min(main.errors.of_loss_degrees, 1e6)
    least = min(variance.values())
    if least <= 0 or not np.isfinite(degrees):
        return list(left)
    limit = float(stats.f.isf(CLEARLY_NOISIER, degrees, degrees))
    return [name for name in left if variance[name] / least <= limit]
