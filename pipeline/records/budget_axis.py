"""The budget axis of a verdict: losses, pairs and verdicts at each budget of a study with several budgets."""

from itertools import pairwise
from typing import Literal

from pipeline.records.model import Number, RecordModel
from pipeline.records.operating_points import VerdictKind

Course = Literal["within_margin", "crossing", "closing", "settled", "cannot_tell"]
"""What the difference of two losses does over the budgets; the first that holds, in this order.

- ``within_margin``: at the largest budget it is shown to lie within the margin.
- ``crossing``: one loss is clearly better at one budget, and the other at a larger one.
- ``closing``: one loss is clearly better at the largest budget, and its lead is clearly smaller than at the middle one
  (on a log scale; of two budgets, the smaller).
- ``settled``: the same loss is clearly better at the two largest budgets, and at twice the largest budget the gap would
  still exceed the margin.
- ``cannot_tell``: the data show none of these.
"""

COURSE_WORDS: dict[Course, str] = {
    "within_margin": "within the margin",
    "crossing": "crossing",
    "closing": "closing",
    "settled": "settled",
    "cannot_tell": "cannot tell",
}
"""The courses as a reader sees them."""


class BudgetMean(RecordModel):
    """Mean of one loss after `steps` optimizer steps; the interval is None for a single patient."""

    steps: int
    loss: str
    mean: Number
    ci_low: float | None = None
    ci_high: float | None = None


class BudgetDifference(RecordModel):
    """Difference of two losses after `steps` optimizer steps; the fields are those of `PairResult`."""

    steps: int
    difference: Number
    ci_low: Number
    ci_high: Number
    p_holm: Number
    better: str | None = None
    equivalent: bool = False


class MarginBudget(RecordModel):
    """Budget from which the gap of two losses would be within the margin, extrapolated from the budgets of the study.

    Attributes
    ----------
    low, high
        Ends of the interval, in optimizer steps. The lower end is at least the largest budget of the study. None means
        more than `BudgetAxis.farthest`, or never.
    best
        Best guess in optimizer steps; None if `high` is None, since the budgets then fit gaps that never close.
    """

    low: float | None = None
    best: float | None = None
    high: float | None = None


class BudgetPair(RecordModel):
    """Loss `a` minus loss `b` at each budget, ascending.

    Attributes
    ----------
    course
        What the difference does over the budgets.
    margin_budget
        None if neither loss is clearly better at the largest budget, if the gap is within the margin there, or if the
        differences do not follow the curves that are extrapolated.
    """

    a: str
    b: str
    differences: tuple[BudgetDifference, ...]
    course: Course
    margin_budget: MarginBudget | None = None

    @property
    def turn(self) -> tuple[int, int] | None:
        """Steps between which the sign changes: one loss is clearly better at the first, the other at the second."""
        clear = [(item.steps, item.better) for item in self.differences if item.better is not None]
        turns = [(first, then) for (first, one), (then, other) in pairwise(clear) if one != other]
        return turns[-1] if turns else None


class BudgetOutcome(RecordModel):
    """The verdict that the results after `steps` optimizer steps give."""

    steps: int
    verdict: VerdictKind
    recommended: str | None


class BudgetAxis(RecordModel):
    """Losses, pairs and verdicts at each budget, by the deciding metric.

    Attributes
    ----------
    metric
        The metric.
    margin
        Difference that does not matter, in the metric's unit.
    steps
        Budgets in optimizer steps, ascending.
    cases
        Cases that all losses share at all budgets.
    farthest
        Largest budget in steps to which differences are extrapolated.
    outcomes
        Verdict at each budget.
    means
        Mean of each loss at each budget.
    pairs
        Course of each pair of losses, controls excluded.
    """

    metric: str
    margin: float
    steps: tuple[int, ...]
    cases: int
    farthest: float
    outcomes: tuple[BudgetOutcome, ...] = ()
    means: tuple[BudgetMean, ...] = ()
    pairs: tuple[BudgetPair, ...] = ()

    @property
    def losses(self) -> tuple[str, ...]:
        """Losses with means, in their order."""
        return tuple(dict.fromkeys(mean.loss for mean in self.means))

    def means_of(self, loss: str) -> tuple[BudgetMean, ...]:
        """Return the means of one loss, by ascending budget."""
        return tuple(mean for mean in self.means if mean.loss == loss)

    def pairs_with(self, course: Course) -> tuple[BudgetPair, ...]:
        """Return the pairs with one course."""
        return tuple(pair for pair in self.pairs if pair.course == course)
