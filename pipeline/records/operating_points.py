"""Results of each loss at a threshold of 0.5 and at its own best threshold."""

from typing import Literal

from pipeline.records.model import Number, RecordModel

Change = Literal["stays", "disappears", "shrinks", "turns", "no longer clear", "appears", "not clear at either"]
"""Fate of a difference at 0.5 once every loss has its own best threshold."""

VerdictKind = Literal["winner", "equivalent", "inconclusive"]


class ThresholdRange(RecordModel):
    """Thresholds chosen for one class over all folds."""

    median: float
    least: float
    largest: float


class OperatingPoint(RecordModel):
    """One loss: its thresholds by class, and its mean Dice at 0.5 and at them.

    `at_edge` tells that a threshold lies at the end of the grid, so that a better one may lie beyond.
    """

    name: str
    thresholds: dict[str, ThresholdRange]
    at_half: float
    at_best: float
    gain: float
    at_edge: bool


class PointDifference(RecordModel):
    """Difference of two losses at one operating point, with its interval."""

    difference: Number
    ci_low: Number
    ci_high: Number
    p_holm: Number
    better: str | None
    equivalent: bool


class OperatingPair(RecordModel):
    """The recommended loss `a` minus another at both points, the change between them, and what becomes of it."""

    a: str
    b: str
    at_half: PointDifference
    at_best: PointDifference
    change: Number
    change_ci_low: Number
    change_ci_high: Number
    says: Change


class PointVerdict(RecordModel):
    """The verdict at one operating point."""

    verdict: VerdictKind
    best: str
    candidates: tuple[str, ...]


class OperatingPoints(RecordModel):
    """The whole comparison at both points.

    Attributes
    ----------
    chosen_without
        Cases that were left out when a threshold was chosen.
    verdict
        The verdicts at ``half`` and ``best``.
    words, caveats
        The same in sentences.
    """

    metric: str
    cases: int
    chosen_without: str
    losses: tuple[OperatingPoint, ...]
    pairs: tuple[OperatingPair, ...]
    verdict: dict[str, PointVerdict]
    words: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
