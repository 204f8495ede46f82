"""Simulate studies of losses at several budgets, whose differences follow known curves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from unittest.mock import patch

import numpy as np

from pipeline.comparison.budget_courses import budget_pairs
from pipeline.comparison.pairing import Paired
from pipeline.comparison.pairs import compare_pairs
from pipeline.records.budget_axis import BudgetPair

Curve = Callable[[np.ndarray], np.ndarray]
"""True lead of the first loss at multiples of the largest budget, in Dice."""

MARGIN = 0.005


def power_law(limit: float, change: float, rate: float) -> Curve:
    """Return a curve that tends to `limit`, from which it is `change` away at the largest budget."""
    return lambda multiples: limit + change * multiples**-rate


def collapse(lead: float, multiple: float) -> Curve:
    """Return a curve that stays at `lead` and then falls to 0, by half up to a multiple of the largest budget."""
    return lambda multiples: lead / (1 + (multiples / multiple) ** 4)


@dataclass(frozen=True, slots=True)
class Design:
    """Design and noise of simulated studies; all noise is a standard deviation in Dice.

    Attributes
    ----------
    curve
        Lead of the first loss; all others are equal.
    steps
        Budgets.
    case_noise
        Deviation of a case for a loss.
    run_noise
        Deviation of a training.
    case_shared, run_shared
        Share of these variances that is the same at all budgets.
    """

    curve: Curve
    losses: int = 2
    seeds: int = 1
    cases: int = 200
    folds: int = 5
    steps: tuple[int, ...] = (100, 200, 400, 800)
    case_noise: float = 0.02
    run_noise: float = 0.005
    case_shared: float = 0.7
    run_shared: float = 0.5

    @property
    def leads(self) -> np.ndarray:
        """True lead of the first loss at each budget."""
        return self.curve(np.array(self.steps) / self.steps[-1])

    @property
    def reached(self) -> float:
        """True budget in steps, at least the largest, from which the lead is within the margin; infinite if never."""
        multiples = np.append(1.0, np.geomspace(1.0, 1e5, 200_001))
        within = np.abs(self.curve(multiples)) <= MARGIN
        return float(multiples[within.argmax()]) * self.steps[-1] if within.any() else inf


def simulated_budgets(design: Design, seed: int) -> dict[int, Paired]:
    """Return the values of each loss at each budget."""
    random = np.random.default_rng(seed)
    fold = np.arange(design.cases) % design.folds
    losses = tuple(f"l{index}" for index in range(design.losses))
    names = tuple(f"c{index:03d}" for index in range(design.cases))
    difficulty = 0.85 + 0.05 * random.standard_normal(design.cases) + 0.01 * random.standard_normal(design.folds)[fold]
    likes = design.case_noise * np.sqrt(0.5) * _noise(random, design, (1, design.cases), design.case_shared)
    rests = design.case_noise * np.sqrt(0.5) * _noise(random, design, (design.seeds, design.cases), design.case_shared)
    trained = design.run_noise * _noise(random, design, (design.seeds, design.folds), design.run_shared)
    values = difficulty + likes + rests + trained[..., fold]  # (budgets, losses, seeds, cases)
    values[:, 0] += design.leads[:, None, None]
    weights = np.ones(design.cases)
    return {
        steps: Paired("dice", losses, names, names, fold, values[at].mean(axis=1), values[at], weights)
        for at, steps in enumerate(design.steps)
    }


def _noise(random: np.random.Generator, design: Design, shape: tuple[int, ...], shared: float) -> np.ndarray:
    """Return noise of variance 1 (budgets, losses, ...), a share of which is the same at all budgets."""
    common = random.standard_normal((1, design.losses, *shape))
    own = random.standard_normal((len(design.steps), design.losses, *shape))
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * own


def first_pair(design: Design, seed: int) -> BudgetPair:
    """Return the course of the first pair of one study."""
    # Signed ranks of normal noise never contradict the mean; without them, studies take half the time.
    with patch("pipeline.comparison.difference.signed_rank_p", lambda rows: np.ones(len(rows))):
        by_budget = {
            steps: compare_pairs(paired, {"share": MARGIN}, 0.95)
            for steps, paired in simulated_budgets(design, seed).items()
        }
    return budget_pairs(by_budget)[0]


@dataclass(slots=True)
class Counts:
    """What the first pair of each study shows.

    Attributes
    ----------
    courses
        Number of studies with each course.
    stated, held
        Studies with an interval of the budget from which the gap is within the margin, and those that hold the truth.
    closed
        Studies whose interval has an upper end.
    too_late, too_early
        Intervals above and below the truth.
    """

    studies: int = 0
    courses: dict[str, int] = field(default_factory=dict)
    stated: int = 0
    held: int = 0
    closed: int = 0
    too_late: int = 0
    too_early: int = 0


def count(design: Design, studies: int) -> Counts:
    """Return the counts over some studies of a design.

    The interval is wrong as well if the sign of the lead at the largest budget is.
    """
    counts, truth = Counts(studies), design.reached
    ahead = "l0" if design.leads[-1] > 0 else "l1"
    for seed in range(studies):
        pair = first_pair(design, seed)
        counts.courses[pair.course] = counts.courses.get(pair.course, 0) + 1
        reach = pair.margin_budget
        if reach is None:
            continue
        low = inf if reach.low is None else reach.low
        high = inf if reach.high is None else reach.high
        farthest = 10.0 * design.steps[-1]
        late, early = low > min(truth, farthest) * 1.0001, high < truth / 1.0001
        late = late and not (truth > farthest)
        counts.stated += 1
        counts.closed += reach.high is not None
        counts.too_late += late
        counts.too_early += early
        counts.held += not late and not early and pair.differences[-1].better == ahead
    return counts


def designs() -> Iterator[tuple[str, Curve]]:
    """Yield known curves with their names; points are those of Dice at the largest budget, unless stated.

    Curves with a star are none that is extrapolated.
    """
    yield "closing, 2 points, rate 0.5", power_law(0, 0.02, 0.5)
    yield "closing, 1 point, rate 0.5", power_law(0, 0.01, 0.5)
    yield "closing, 1 point, rate 1", power_law(0, 0.01, 1.0)
    yield "closing, 3 points, rate 0.2", power_law(0, 0.03, 0.2)
    yield "closing to 1 point from 2, rate 0.5", power_law(0.01, 0.01, 0.5)
    yield "closing to 0.6 points from 1.6, rate 0.5", power_law(0.006, 0.01, 0.5)
    yield "crossing beyond, from 1 to -1 points, rate 0.5", power_law(-0.01, 0.02, 0.5)
    yield "crossing beyond, from 1.5 to -0.5 points, rate 1", power_law(-0.005, 0.02, 1.0)
    yield "crossing before, from -2 to 1 points, rate 0.5", power_law(0.0264, -0.0164, 0.5)
    yield "parallel, 2 points", power_law(0.02, 0, 0.5)
    yield "parallel, 1 point", power_law(0.01, 0, 0.5)
    yield "growing, from 1 to 2 points, rate 0.5", power_law(0.0255, -0.0055, 0.5)
    yield "equal", power_law(0, 0, 0.5)
    yield "collapsing from 3 points around the largest budget *", collapse(0.03, 1.0)
    yield "collapsing from 2 points around twice the largest budget *", collapse(0.02, 2.0)
