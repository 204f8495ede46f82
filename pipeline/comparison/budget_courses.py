"""Classify the difference of each pair of losses over the budgets of a study.

All budgets share patients, folds and seeds, and trainings at several budgets may share their first steps. The change of
a difference between two budgets is therefore known better than either difference. Its variance comes from the changes
themselves, as for recipes (`pipeline.comparison.interaction`), and gives the covariance of the differences.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.difference import NO_NOISE
from pipeline.comparison.extrapolation import Reach, reach_of
from pipeline.comparison.interaction import change_between
from pipeline.comparison.pairs import Comparison, holm
from pipeline.comparison.resampling import units_of
from pipeline.comparison.variance import MeanErrors, mean_errors
from pipeline.records.budget_axis import BudgetDifference, BudgetPair, Course, MarginBudget
from pipeline.records.pair_result import PairResult

Floats = NDArray[np.float64]

ACCELERATING = 0.05
"""One-sided level of the test at which the fall of a gap clearly accelerates."""

AHEAD = 2.0
"""A settled gap still exceeds the margin at this multiple of the largest budget."""


def chosen_budgets(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of the budgets from which gaps are extrapolated: first, middle on a log scale, and last.

    Three budgets determine a curve. More would need the inverse of a covariance that five folds do not determine.

    Examples
    --------
    >>> chosen_budgets([100, 200, 400, 800]), chosen_budgets([200, 800])
    ((0, 1, 3), (0, 1))
    """
    last = len(steps) - 1
    if last < 2:
        return tuple(range(len(steps)))
    squared = steps[0] * steps[-1]  # of the middle; integers decide ties exactly, in favor of the smaller budget
    middle = min(range(1, last), key=lambda at: max(steps[at] ** 2 / squared, squared / steps[at] ** 2))
    return 0, middle, last


def budget_pairs(
    by_budget: Mapping[int, Comparison], controls: Collection[str] = (), training_sd: float | None = None
) -> list[BudgetPair]:
    """Return the course of each pair of losses, without controls.

    Parameters
    ----------
    by_budget
        Comparison at each budget in steps, ascending, with the same losses and cases at all of them.
    controls
        Losses that repeat another one.
    training_sd
        Stated noise of trainings, as for `pipeline.comparison.variance.mean_errors`.
    """
    steps, every = tuple(by_budget), list(by_budget.values())
    last = every[-1]
    kept = [at for at, pair in enumerate(last.pairs) if not pair.names & set(controls)]
    if not kept:
        return []
    gaps = _Gaps.of(steps, every, kept, training_sd)
    shrinks = gaps.shrinks(1 - last.confidence)
    reaches = gaps.reaches([last.pairs[at] for at in kept], last.confidence)
    found = []
    for at, shrunk, reach in zip(kept, shrinks, reaches, strict=True):
        differences = tuple(
            item.pairs[at].summary(BudgetDifference, steps=budget) for budget, item in by_budget.items()
        )
        pair = last.pairs[at]
        course = _course(differences, shrunk=shrunk, reach=reach)
        found.append(BudgetPair(a=pair.a, b=pair.b, differences=differences, course=course, margin_budget=reach))
    return found


def _course(differences: Sequence[BudgetDifference], *, shrunk: bool, reach: MarginBudget | None) -> Course:
    """Return the course of a pair, as `pipeline.records.budget_axis.Course` defines it."""
    before, last = differences[-2:]
    if last.equivalent:
        return "within_margin"
    if len({item.better for item in differences if item.better is not None}) > 1:
        return "crossing"
    if last.better is None:
        return "cannot_tell"
    if shrunk:
        return "closing"
    stays = reach is not None and (reach.low is None or reach.low >= AHEAD * last.steps)
    return "settled" if stays and before.better == last.better else "cannot_tell"


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Differences of pairs at all budgets, signed such that the last is not negative.

    Attributes
    ----------
    steps
        Budgets (budgets,).
    values, degrees
        Differences, and degrees of freedom of their errors (pairs, budgets).
    variances
        Variance of each difference (pairs, budgets).
    changes, change_degrees
        Variance of the change between two budgets, and its degrees of freedom (pairs, budgets, budgets).
    """

    steps: tuple[int, ...]
    values: Floats
    degrees: Floats
    variances: Floats
    changes: Floats
    change_degrees: Floats

    @classmethod
    def of(
        cls, steps: tuple[int, ...], every: Sequence[Comparison], kept: Sequence[int], training_sd: float | None
    ) -> "_Gaps":
        keys = list(every[-1].differences)
        place = tuple(np.array([keys[at] for at in kept]).T)
        values = np.array([[item.pairs[at].difference for item in every] for at in kept])
        changes, change_degrees = np.zeros((2, len(kept), len(steps), len(steps)))
        for i, j in combinations(range(len(steps)), 2):
            errors = _change_errors(every[i], every[j], training_sd)
            changes[:, i, j] = changes[:, j, i] = errors.variance[place]
            change_degrees[:, i, j] = change_degrees[:, j, i] = errors.degrees[place]
        return cls(
            steps,
            np.where(values[:, -1:] < 0, -1.0, 1.0) * values,
            np.stack([item.errors.degrees[place] for item in every], axis=1),
            np.stack([item.errors.variance[place] for item in every], axis=1),
            changes,
            change_degrees,
        )

    @property
    def covariance(self) -> Floats:
        """Covariance of the differences (pairs, budgets, budgets)."""
        covariance: Floats = (self.variances[:, :, None] + self.variances[:, None, :] - self.changes) / 2
        return covariance

    def shrinks(self, level: float) -> list[bool]:
        """Return whether each gap is clearly smaller at the last budget than at the middle one (Holm)."""
        middle = chosen_budgets(self.steps)[-2]
        fall, error = self.values[:, middle] - self.values[:, -1], np.sqrt(self.changes[:, middle, -1])
        known = error > NO_NOISE * np.abs(fall)
        ratio = np.divide(np.abs(fall), error, out=np.zeros_like(fall), where=known)
        corrected = holm(list(2 * stats.t.sf(ratio, self.change_degrees[:, middle, -1])))
        return [p < level and change > 0 for p, change in zip(corrected, fall, strict=True)]

    def accelerates(self) -> NDArray[np.bool_]:
        """Return whether each gap clearly falls faster over log b after some budget than before it.

        No curve that is extrapolated does so. A lead that has begun to collapse would be extrapolated too far.
        """
        found = np.zeros(len(self.values), dtype=bool)
        log = np.log(self.steps)
        for at in range(1, len(self.steps) - 1):
            here = [0, at, -1]
            before, after = 1 / (log[at] - log[0]), 1 / (log[-1] - log[at])
            contrast = np.array([-before, before + after, -after])
            bend = self.values[:, here] @ contrast
            # The weights add up to 0, so that the variance follows from those of the changes alone.
            changes = self.changes[:, here][:, :, here]
            error = np.sqrt(np.maximum(-np.einsum("i,gij,j->g", contrast, changes, contrast) / 2, 0.0))
            falls = self.values[:, at] > self.values[:, -1]
            limit = error * stats.t.isf(ACCELERATING, self.change_degrees[:, at, -1])
            found |= falls & (bend > limit) & (error > NO_NOISE * np.abs(bend))
        return found

    def reaches(self, pairs: Sequence[PairResult], confidence: float) -> list[MarginBudget | None]:
        """Return the budget from which each gap would be within the margin; None as `BudgetPair` describes it."""
        found: list[MarginBudget | None] = [None] * len(pairs)
        bent = self.accelerates()
        clear = [pair.better is not None and not pair.equivalent for pair in pairs]
        asked = np.flatnonzero(np.array(clear) & ~bent)
        if not asked.size:
            return found
        chosen = np.array(chosen_budgets(self.steps))
        steps = np.array(self.steps, dtype=np.float64)[chosen]
        covariance = self.covariance[np.ix_(asked, chosen, chosen)]
        critical = stats.t.isf((1 - confidence) / 2, self.degrees[asked, -1])
        reach = reach_of(self.values[np.ix_(asked, chosen)], covariance, steps, pairs[0].margin, critical)
        for at, row in enumerate(asked):
            found[row] = _margin_budget(reach, at, self.steps)
        return found


def _margin_budget(reach: Reach, at: int, steps: Sequence[int]) -> MarginBudget:
    low, best, high = (float(value[at]) * steps[-1] for value in (reach.low, reach.best, reach.high))
    closes = isfinite(high) and len(steps) > 2  # two budgets do not show a best curve
    return MarginBudget(
        low=low if isfinite(low) else None,
        best=best if closes else None,
        high=high if isfinite(high) else None,
    )


def _change_errors(first: Comparison, second: Comparison, training_sd: float | None) -> MeanErrors:
    change = change_between(first.paired, second.paired, frozenset())
    assert change is not None, "a pair has two losses"
    # The change of a loss contains the noise of two trainings.
    stated = None if training_sd is None else sqrt(2) * training_sd
    return mean_errors(change, units_of(change), stated)
