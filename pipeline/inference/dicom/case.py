"""One volume chosen from a study, named by a hash that says nothing about the patient."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError


class DicomError(DatasetError):
    """A series of DICOM files that cannot be read as one volume, or a study without the series asked for."""


@dataclass(frozen=True, slots=True)
class DicomCase:
    """A volume of a study that the model is to segment, or why there is none.

    Parameters
    ----------
    id
        `dcm-` and twelve hexadecimal digits from a hash of UIDs; never from patient tags or file names.
    study_uid, series_uid
        As in the files; `series_uid` is empty where no series was chosen.
    files
        One slice each, by position along the normal of the slices; or one multi-frame file.
    problem, remedy
        Why it cannot be segmented, in words that hold no tag with free text; None where it can.
    said
        One line for each series of the study: taken or not, and why; and what else is worth knowing.
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
    problem: str | None = None
    remedy: str = ""
    said: tuple[str, ...] = ()
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
