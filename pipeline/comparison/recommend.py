"""Which of several losses that are as good by the deciding metric to recommend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.ranking import pareto
from pipeline.records.loss_order import is_known, simplicity

Reason = Literal["alone", "front", "harmless", "robust", "steady", "simplest", "best mean"]

CLEARLY_NOISIER = 0.05
"""Level of the F test by which the trainings of one loss vary more than those of another."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The recommended loss, and the step at which the others fell away."""

    loss: str
    reason: Reason


def choose(
    candidates: Sequence[str],
    compared: Mapping[str, Comparison],
    primary: str,
    collapsed: Mapping[str, int],
    by_case: Sequence[str] = (),
) -> Choice:
    """Choose among candidates (best mean first) that the deciding metric leaves standing.

    In this order: the Pareto front of Dice and 95 % Hausdorff; no clear harm in any other metric; fewest collapsed
    trainings; trainings that do not vary clearly more; the simplest loss that is known; the best mean.

    Parameters
    ----------
    candidates
        Losses that the deciding metric does not tell apart, best mean first.
    compared
        All metrics.
    primary
        The metric that decides.
    collapsed
        Collapsed runs of each loss.
    by_case
        Metrics to be ranked within cases on the front.
    """
    main = compared[primary]
    left = _unbeaten(candidates, main)
    reason: Reason = "alone"
    if {"dice", "hausdorff95_mm"} <= set(compared):
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
        return Choice(left[0], "best mean")
    return Choice(min(known, key=lambda name: simplicity(name)[0]), "simplest")


def _narrowed(left: list[str], kept: list[str], reason: Reason, step: Reason) -> tuple[list[str], Reason]:
    """Return the losses that a step keeps, all where it would keep none, with the reason of the last step that cut."""
    if not kept or len(kept) == len(left):
        return left, reason
    return kept, step


def _unbeaten(candidates: Sequence[str], main: Comparison) -> list[str]:
    """Return the candidates that no other candidate clearly beats by more than what matters."""
    beaten = {
        name
        for pair in main.pairs
        if pair.names <= set(candidates) and pair.better and not pair.equivalent
        for name in pair.names
        if name != pair.better
    }
    return [name for name in candidates if name not in beaten] or list(candidates)


def _harmed(name: str, among: Sequence[str], item: Comparison) -> bool:
    """Whether some other loss is clearly better than this one in a metric, by more than what matters."""
    return any(
        pair.better not in (None, name) and pair.better in among and not pair.equivalent
        for pair in item.pairs
        if name in pair.names
    )


def _steady(left: Sequence[str], main: Comparison) -> list[str]:
    """Return the losses whose trainings do not vary clearly more than those of the steadiest."""
    variance = {name: float(main.errors.of_loss[main.paired.losses.index(name)]) for name in left}
    degrees = min(main.errors.of_loss_degrees, 1e6)
    least = min(variance.values())
    if least <= 0 or not np.isfinite(degrees):
        return list(left)
    limit = float(stats.f.isf(CLEARLY_NOISIER, degrees, degrees))
    return [name for name in left if variance[name] / least <= limit]
