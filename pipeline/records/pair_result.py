"""The comparison of two losses by one metric."""

from collections.abc import Sequence
from math import nan
from typing import Self, TypeVar

from pipeline.records.model import Number, RecordModel

Summary = TypeVar("Summary", bound=RecordModel)

SUMMARY_FIELDS = ("difference", "ci_low", "ci_high", "p_holm", "better", "equivalent")
"""Fields that a summary of a pair under one condition shares with `PairResult`."""


class PairResult(RecordModel):
    """Loss `a` minus loss `b` by one metric, paired by case.

    Attributes
    ----------
    difference, ci_low, ci_high
        Mean difference and its interval, in the metric's unit. An interval may be infinite.
    p_value, p_holm
        Of the t test of the mean difference; corrected for all pairs of the metric (Holm).
    replicated
        True if the noise of trainings is known; without it there is neither `better` nor `equivalent`.
    equivalent
        True if the interval shows that the difference lies within `margin`.
    better
        The loss that is clearly better, None if neither is.
    median_difference, p_wilcoxon, cohen_dz, rank_biserial
        Descriptions of the typical case and the size of the effect; they decide nothing.
    superiority
        Probability that `a` has the larger value in a case; ties count half.
    typical_case_disagrees
        True if mean and typical case clearly favor different losses.
    noise_floor
        Standard deviation of the gap between two studies of one and the same loss.
    power_at_margin
        Chance that a study like this one finds a difference as large as the margin.
    """

    a: str
    b: str
    metric: str
    cases: int
    difference: Number
    ci_low: Number
    ci_high: Number
    p_value: Number = nan
    p_holm: Number
    replicated: bool = True
    equivalent: bool
    better: str | None = None
    margin: float = nan
    median_difference: Number = nan
    typical_case_disagrees: bool = False
    noise_floor: float | None = None
    p_wilcoxon: float | None = None
    cohen_dz: float | None = None
    rank_biserial: float | None = None
    superiority: float | None = None
    power_at_margin: float | None = None

    def summary(self, kind: type[Summary], **condition: str | int) -> Summary:
        """Return the pair under one condition, such as a recipe or a budget, as a model with `SUMMARY_FIELDS`."""
        return kind.model_validate(condition | {name: getattr(self, name) for name in SUMMARY_FIELDS})

    @property
    def names(self) -> frozenset[str]:
        """Both losses."""
        return frozenset((self.a, self.b))

    @property
    def worse(self) -> str | None:
        """The loss that is clearly worse, None if neither is."""
        return None if self.better is None else self.other(self.better)

    def other(self, name: str) -> str:
        """Return the loss that `name` is compared with."""
        return self.b if self.a == name else self.a

    def flipped(self) -> Self:
        """Return the same result as `b` minus `a`.

        Examples
        --------
        >>> numbers = {"difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p_holm": 0.1}
        >>> pair = PairResult(a="ce", b="dice", metric="dice", cases=9, equivalent=False, **numbers)
        >>> pair.flipped().ci_low
        -0.2
        """
        return self.model_copy(
            update={
                "a": self.b,
                "b": self.a,
                "difference": -self.difference,
                "ci_low": -self.ci_high,
                "ci_high": -self.ci_low,
                "median_difference": -self.median_difference,
                "cohen_dz": None if self.cohen_dz is None else -self.cohen_dz,
                "rank_biserial": None if self.rank_biserial is None else -self.rank_biserial,
                "superiority": None if self.superiority is None else 1 - self.superiority,
            }
        )

    def seen_from(self, name: str) -> Self:
        """Return the result as `name` minus the other loss."""
        return self if self.a == name else self.flipped()


def pair_of(pairs: Sequence[PairResult], first: str, second: str) -> PairResult | None:
    """Return the result of two losses as ``first - second``; None if they were not compared."""
    found = next((pair for pair in pairs if pair.names == {first, second}), None)
    return None if found is None else found.seen_from(first)
