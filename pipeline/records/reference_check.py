"""The outcome of the check of references: those that all losses contradict alike."""

from typing import Literal

from pipeline.records.model import RecordModel


class DoubtfulReference(RecordModel):
    """A reference to look at, and the change that would make it suit the predictions.

    Attributes
    ----------
    case
        Its case.
    words
        The change in words.
    kind
        Kind of the change.
    shift_mm_ras
        Shift in mm towards right, anterior and superior.
    dice, dice_changed
        Mean Dice of reference and predictions as they are, and with the changed reference.
    agreement
        Mean Dice between the predictions of different losses.
    """

    case: str
    words: str
    kind: Literal["moved", "mirrored", "exchanged"]
    shift_mm_ras: tuple[float, float, float]
    dice: float
    dice_changed: float
    agreement: float


class ReferenceCheck(RecordModel):
    """Number of references checked, and the doubtful ones, those with the most to gain first.

    `without` says what the study would say without them; it is empty if they are too many to leave out.
    """

    checked: int = 0
    without: str = ""
    doubtful: tuple[DoubtfulReference, ...] = ()
