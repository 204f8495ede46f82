"""One volume chosen from a study, named by a hash that says nothing about the patient."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.system.files import sha256_of_files


class DicomError(DatasetError):
    """A series of DICOM files that cannot be read as one volume, or a study without the series asked for."""


class NoImageError(DatasetError):
    """A folder without a DICOM image, whole or damaged."""


@dataclass(frozen=True, slots=True)
class DicomCase:
    """A volume of a study that the model is to segment, or why there is none.

    Parameters
    ----------
    id
        `dcm-` and twelve hexadecimal digits from a hash of UIDs; never from patient tags or file names.
    study_uid, series_uid
        As in the files; empty where they are not valid, and `series_uid` where no series was chosen.
    files
        One slice each, by position along the normal of the slices; or one multi-frame file.
    study_files
        Where no series was chosen: the files that the problem is about.
    place
        The folder of the files relative to the input, without parts that name the patient.
    problem, remedy
        Why it cannot be segmented, in words that hold no tag with free text; None where it can.
    said
        One line for each series of the study: taken or not, and why; and what else is worth knowing.
    warnings
        Reasons why the series may be incomplete; its result is held.
    spacing_mm
        Between columns, between rows, between slices.
    tilt_degrees
        Of the gantry; 0 where the slices lie straight.
    resample_tilt
        True where `to_nifti` is to resample the tilted slices on a straight grid.
    """

    id: str
    study_uid: str
    series_uid: str = ""
    files: tuple[Path, ...] = ()
    study_files: tuple[Path, ...] = ()
    place: str = ""
    problem: str | None = None
    remedy: str = ""
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    modality: str = ""
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt_degrees: float = 0.0
    resample_tilt: bool = False

    def error(self) -> DicomError | None:
        """Return the problem as an error that can be raised; None where there is none."""
        return DicomError(self.id, self.problem, self.remedy) if self.problem else None


def case_id(*uids: str) -> str:
    """Return the name of a case from the UIDs that tell it apart."""
    return "dcm-" + hashlib.sha256("\n".join(uids).encode()).hexdigest()[:12]


def case_id_of_files(files: Sequence[Path]) -> str:
    """Return the name of a case without valid UIDs, from the contents of its files; never from their names."""
    try:
        return case_id(sha256_of_files(files))
    except OSError:
        return case_id("cannot be read", str(len(files)))
