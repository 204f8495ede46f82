"""The volume selected from a study; its identifier is a hash that does not reveal the patient."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.system.files import sha256_of_files


class DicomError(DatasetError):
    """A series that cannot be read as one volume, or a study without the requested series."""


class NoImageError(DatasetError):
    """A folder without a DICOM image, intact or damaged."""


@dataclass(frozen=True, slots=True)
class DicomCase:
    """A volume of a study that is to be segmented, or the reason why there is none.

    Parameters
    ----------
    id
        `dcm-` and twelve hexadecimal digits of a hash of UIDs; never derived from patient tags or file names.
    study_uid, series_uid
        UIDs of the files; empty if they are not valid. `series_uid` is also empty if no series was selected.
    files
        One file for each slice, ordered by position along the normal of the slices; or one multi-frame file.
    study_files
        The files that the problem is about, if no series was selected.
    location
        The folder of the files relative to the input, with parts that name the patient replaced.
    problem, remedy
        Why the study cannot be segmented, in words that repeat no free text of a header; None if it can.
    notes
        One line for each series of the study (selected or not, and why), and other observations.
    warnings
        Reasons why the series may be incomplete; its result is held.
    modality
        Value of Modality.
    spacing_mm
        Distance in mm between columns, between rows, between slices.
    tilt_degrees
        Tilt of the gantry in degrees; 0 if the slices are straight.
    resample_tilt
        True if `to_nifti` is to resample tilted slices on a straight grid.
    """

    id: str
    study_uid: str
    series_uid: str = ""
    files: tuple[Path, ...] = ()
    study_files: tuple[Path, ...] = ()
    location: str = ""
    problem: str | None = None
    remedy: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    modality: str = ""
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt_degrees: float = 0.0
    resample_tilt: bool = False

    def error(self) -> DicomError | None:
        """Return the problem as an exception; None if there is none."""
        return DicomError(self.id, self.problem, self.remedy) if self.problem else None


def case_id(*uids: str) -> str:
    """Return the identifier of a case from its UIDs.

    Examples
    --------
    >>> case_id("1.2.840.1", "1.2.840.2")
    'dcm-5b082208f4d8'
    """
    return "dcm-" + hashlib.sha256("\n".join(uids).encode()).hexdigest()[:12]


def case_id_of_files(files: Sequence[Path]) -> str:
    """Return the identifier of a case without valid UIDs from the contents of its files, never from their names."""
    try:
        return case_id(sha256_of_files(files))
    except OSError:
        return case_id("cannot be read", str(len(files)))
