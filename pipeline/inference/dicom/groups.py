"""Slices that could be one volume, as their headers tell."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.inference.dicom.geometry import common_orientation, plane_of
from pipeline.inference.dicom.identity import Identity, is_valid_uid
from pipeline.inference.dicom.rules import PLANE, SLICES
from pipeline.inference.dicom.spacing import spacing_values


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice, or one frame of a multi-frame file. Positions and spacings in mm, L, P, S; None where absent."""

    path: Path
    sop_uid: str
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, ...] | None


@dataclass(slots=True)
class Group:
    """Slices of one study, series, frame of reference, plane and matrix (or one multi-frame file).

    Parameters
    ----------
    study_key
        The UID of the study; where it is empty or not valid, the folder too, so that patients stay apart.
    orientation
        The most common one of its slices; others lie within `NEARLY_PARALLEL`.
    description
        Of the series; used to find it, never repeated in a message.
    values
        What rules look at, by keyword.
    """

    study_key: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    number: int | None
    description: str
    modality: str
    image_type: tuple[str, ...]
    matrix: tuple[int, int]
    photometric: str
    samples: int
    orientation: tuple[float, ...] | None
    is_multiframe: bool
    is_concatenated: bool
    images_in_acquisition: int | None
    values: dict[str, Any]
    planes: list[Plane] = field(default_factory=list)
    identity: Identity = field(default_factory=Identity, repr=False)

    def close(self) -> None:
        """Settle the orientation, and let rules see how many slices there are, how far apart, and in which plane."""
        orientations = [plane.orientation for plane in self.planes if plane.orientation]
        self.orientation = common_orientation(orientations) if orientations else None
        self.values |= spacing_values(self.planes, self.orientation)
        self.values[SLICES] = len(self.planes)
        self.values[PLANE] = plane_of(self.orientation) if self.orientation else None

    @property
    def name(self) -> str:
        """Number, modality, plane and size: nothing that could name a patient."""
        if self.number is not None:
            number = f"series {self.number}"
        elif is_valid_uid(self.series_uid):
            number = f"the series ending in …{self.series_uid[-8:]}"
        else:
            number = "the series without a valid UID"
        plane = f"{plane_of(self.orientation).lower()}, " if self.orientation else ""
        count = len(self.planes)
        return (
            f"{number} ({self.modality or 'no modality'}, {plane}{count} {'slice' if count == 1 else 'slices'} of "
            f"{self.matrix[1]} × {self.matrix[0]})"
        )
