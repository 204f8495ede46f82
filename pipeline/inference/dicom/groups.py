"""Slices that may make one volume according to their headers."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.inference.dicom.geometry import most_common_orientation, plane_of
from pipeline.inference.dicom.identity import Identity, is_valid_uid
from pipeline.inference.dicom.rules import PLANE, SLICES, HeaderValue
from pipeline.inference.dicom.spacing import spacing_values


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice, or one frame of a multi-frame file. Positions and spacings are in mm (L, P, S), None if absent."""

    path: Path
    sop_uid: str
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, ...] | None


@dataclass(slots=True)
class Group:
    """Slices of one study, series, frame of reference, plane and matrix, or one multi-frame file.

    Parameters
    ----------
    study_key
        UID of the study. If it is empty or invalid, the folder is added, so that patients stay separate.
    study_uid, series_uid, frame_of_reference_uid
        UIDs as in the header, possibly empty or invalid.
    number
        Number of the series.
    description
        Description of the series: used to find it, never repeated in a message.
    modality, image_type, photometric, samples
        Values of Modality, ImageType, PhotometricInterpretation and SamplesPerPixel.
    matrix
        Rows and columns.
    orientation
        The most common orientation of its slices; the others lie within `geometry.NEARLY_PARALLEL`.
    is_multiframe
        True for an enhanced multi-frame file.
    is_concatenated
        True if the file is a part of a concatenation.
    images_in_acquisition
        Value of ImagesInAcquisition.
    values
        Values that series rules compare, by keyword.
    planes
        The slices.
    identity
        The values that identify the patient.
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
    values: dict[str, HeaderValue]
    planes: list[Plane] = field(default_factory=list)
    identity: Identity = field(default_factory=Identity, repr=False)

    def finalize(self) -> None:
        """Once all slices are added, set the orientation and the values of rules that depend on all slices."""
        orientations = [plane.orientation for plane in self.planes if plane.orientation]
        self.orientation = most_common_orientation(orientations) if orientations else None
        self.values |= spacing_values(self.planes, self.orientation)
        self.values[SLICES] = len(self.planes)
        self.values[PLANE] = plane_of(self.orientation) if self.orientation else None

    @property
    def name(self) -> str:
        """Number, modality, plane and size of the series; nothing that could name a patient."""
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
