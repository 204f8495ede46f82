"""The decision which results are held: predicted, but not released, because their images differ from the training."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import DatasetError
from pipeline.inference.case_record import CaseRecord


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """Treatment of cases with warnings in a batch. By default their results are held.

    Parameters
    ----------
    release_warned
        Release them too: write their DICOM results, with the warnings in the report.
    strict
        Refuse them before inference. A result is still held if its warning arises from the result itself.

    Examples
    --------
    >>> ReleasePolicy().holds(["spacing left-right 3 mm, trained on 1 mm"])
    True
    >>> ReleasePolicy().holds([])
    False
    >>> ReleasePolicy(release_warned=True).holds(["spacing left-right 3 mm, trained on 1 mm"])
    False
    """

    release_warned: bool = False
    strict: bool = False

    def holds(self, warnings: Sequence[str]) -> bool:
        """Return whether a result with these warnings is held."""
        return bool(warnings) and not self.release_warned

    def accepts_earlier(self, earlier: CaseRecord) -> bool:
        """Return whether an intact result of an earlier batch makes a new prediction unnecessary.

        A released result is accepted. A result with warnings that was never released is not; early versions, which
        held no results, wrote such records.
        """
        if earlier.status == "held":
            return not self.release_warned and not self.strict
        return not earlier.warnings or earlier.released

    def refuse_warned(self, case: str, warnings: Sequence[str]) -> None:
        """Raise a `DatasetError` for a case with warnings if the policy is strict."""
        if self.strict and warnings:
            raise DatasetError(
                case, f"refused by --strict: {'; '.join(warnings)}", "check whether it is the right image"
            )
