"""Which results are held: predicted, but not released, because something about the images is not as in training."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import DatasetError
from pipeline.inference.journal import CaseRecord


@dataclass(frozen=True, slots=True)
class Holding:
    """How a batch treats cases with warnings.

    Parameters
    ----------
    release
        Write their DICOM results too, with the warnings in the report.
    strict
        Refuse them before the network sees them; what only the result shows is still held.
    """

    release: bool = False
    strict: bool = False

    def is_held(self, warnings: Sequence[str]) -> bool:
        """Whether a result with these warnings is held."""
        return bool(warnings) and not self.release

    def stands(self, earlier: CaseRecord) -> bool:
        """Whether an intact result of an earlier batch needs no further prediction.

        A result that was released stands. One with warnings that nobody released, as earlier versions wrote them, does
        not.
        """
        if earlier.status == "held":
            return not self.release and not self.strict
        return not earlier.warnings or earlier.released

    def refuse(self, case: str, warnings: Sequence[str]) -> None:
        """Raise a `DatasetError` for a case that `strict` does not let pass."""
        if self.strict and warnings:
            raise DatasetError(
                case, f"refused by --strict: {'; '.join(warnings)}", "check whether it is the right image"
            )
