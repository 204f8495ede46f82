"""The headers of a folder of mixed files, and the groups of slices that could be one volume."""

import os
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import MediaStorageDirectoryStorage

from pipeline.errors import DatasetError
from pipeline.inference.dicom.geometry import ORIENTATION_TOLERANCE, plane_of
from pipeline.inference.dicom.rules import PLANE, SLICES
from pipeline.inference.dicom.spacing import spacing_values

_DAMAGED = (
    InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError, TypeError, AttributeError, LookupError,
    ArithmeticError, RuntimeError, struct.error,
)  # fmt: skip
"""What pydicom raises for damaged files, by fuzzing; among RuntimeErrors an unknown value representation."""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "ImagesInAcquisition",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "ConcatenationUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


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
    """Slices of one study, series, frame of reference, orientation and matrix (or one multi-frame file).

    Parameters
    ----------
    description
        Of the series; used to find it, never repeated in a message.
    values
        What rules look at, by keyword.
    """

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

    def close(self) -> None:
        """Let rules see how many slices there are, how far apart, and in which plane."""
        self.values |= spacing_values(self.planes, self.orientation)
        self.values[SLICES] = len(self.planes)
        self.values[PLANE] = plane_of(self.orientation) if self.orientation else None

    @property
    def name(self) -> str:
        """Number, modality, plane and size: nothing that could name a patient."""
        number = f"series {self.number}" if self.number is not None else f"the series ending in …{self.series_uid[-8:]}"
        plane = f"{plane_of(self.orientation).lower()}, " if self.orientation else ""
        count = len(self.planes)
        return (
            f"{number} ({self.modality or 'no modality'}, {plane}{count} {'slice' if count == 1 else 'slices'} of "
            f"{self.matrix[1]} × {self.matrix[0]})"
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds: groups of slices, DICOM files without pixels, damaged DICOM files, and others."""

    groups: tuple[Group, ...]
    without_pixels: int
    damaged: int
    others: int

    def left_out(self) -> str | None:
        """Return how many files are no images, in words; None where all are."""
        counts = {
            "no DICOM": self.others,
            "DICOM without an image": self.without_pixels,
            "damaged DICOM, which may be missing in a series": self.damaged,
        }
        said = [f"{count} {'file is' if count == 1 else 'files are'} {what}" for what, count in counts.items() if count]
        return "; ".join(said) or None


def scan(folder: Path, keywords: Collection[str] = ()) -> Scan:
    """Read the headers of all files below a folder, or of those that a DICOMDIR names.

    Parameters
    ----------
    keywords
        Further DICOM keywords whose values rules look at.

    Raises
    ------
    DatasetError
        Where nothing is there, or a DICOMDIR cannot be read.
    """
    if not folder.exists():
        raise DatasetError(folder, "does not exist", "name a folder with DICOM files")
    without_pixels = damaged = others = 0
    groups: list[Group] = []
    by_series: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    for path in _files(folder):
        if not _is_dicom(path):
            others += 1
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=sorted({*_TAGS, *keywords}))
            if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                continue
            if "Rows" not in header:
                is_whole = "SOPInstanceUID" in header
                without_pixels, damaged = without_pixels + is_whole, damaged + (not is_whole)
                continue
            _sort_in(header, path, keywords, groups, by_series)
        except _DAMAGED:
            damaged += 1
    for group in groups:
        group.close()
    return Scan(tuple(groups), without_pixels, damaged, others)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for root, folders, names in os.walk(folder):
            folders.sort()
            yield from (Path(root, name) for name in sorted(names))
        return
    if not _is_dicom(folder):
        raise DatasetError(folder, "is no DICOM file", "name a folder with DICOM files, or a DICOMDIR")
    try:
        directory = pydicom.dcmread(folder)
        records = directory.get("DirectoryRecordSequence", [])
    except _DAMAGED as error:
        raise DatasetError(
            folder, f"cannot be read ({type(error).__name__})", "name the folder that holds the files"
        ) from error
    if directory.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
        yield folder
        return
    for record in records:
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        path = folder.parent.joinpath(*([parts] if isinstance(parts, str) else parts)).resolve()
        if not path.is_relative_to(folder.parent.resolve()) or not path.is_file():
            raise DatasetError(folder, "names a file that is not there", "copy the whole medium, or name its folder")
        yield path


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def _sort_in(
    header: Dataset,
    path: Path,
    keywords: Iterable[str],
    groups: list[Group],
    by_series: dict[tuple[Any, ...], list[Group]],
) -> None:
    planes = list(_planes(header, path))
    is_multiframe = "PerFrameFunctionalGroupsSequence" in header
    matrix = int(header.Rows), int(header.Columns)
    frame_of_reference = str(header.get("FrameOfReferenceUID") or "")
    key = (str(header.StudyInstanceUID), str(header.SeriesInstanceUID), frame_of_reference, matrix, is_multiframe)
    orientation = planes[0].orientation
    for group in by_series[key]:
        if not is_multiframe and _are_one(group.orientation, orientation):
            group.planes.extend(planes)
            return
    number, images = header.get("SeriesNumber"), header.get("ImagesInAcquisition")
    group = Group(
        study_uid=key[0],
        series_uid=key[1],
        frame_of_reference_uid=frame_of_reference,
        number=None if number in (None, "") else int(number),
        description=str(header.get("SeriesDescription") or ""),
        modality=str(header.get("Modality") or ""),
        image_type=tuple(str(part).upper() for part in _texts(header.get("ImageType"))),
        matrix=matrix,
        photometric=str(header.get("PhotometricInterpretation") or ""),
        samples=int(header.get("SamplesPerPixel") or 1),
        orientation=orientation,
        is_multiframe=is_multiframe,
        is_concatenated="ConcatenationUID" in header,
        images_in_acquisition=None if images in (None, "") else int(images),
        values={keyword: _plain(header.get(keyword)) for keyword in keywords},
        planes=planes,
    )
    by_series[key].append(group)
    groups.append(group)


def _planes(header: Dataset, path: Path) -> Iterator[Plane]:
    """Yield the slice of a single-frame file, or the frames of a multi-frame one (PS3.3, C.7.6.16)."""
    sop_uid = str(header.SOPInstanceUID)
    if "PerFrameFunctionalGroupsSequence" not in header:
        keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        frames = int(header.get("NumberOfFrames") or 1)
        if frames > path.stat().st_size:
            raise ValueError(f"{frames} frames in fewer bytes")
        places = [_numbers(header.get(keyword)) for keyword in keywords] if frames == 1 else [None] * 3
        for _ in range(frames):
            yield Plane(path, sop_uid, *places)
        return
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for frame in header.PerFrameFunctionalGroupsSequence:
        yield Plane(
            path,
            sop_uid,
            _numbers(_macro(frame, shared, "PlanePositionSequence", "ImagePositionPatient")),
            _numbers(_macro(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient")),
            _numbers(_macro(frame, shared, "PixelMeasuresSequence", "PixelSpacing")),
        )


def _macro(frame: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    items = frame.get(sequence) or shared.get(sequence)
    return items[0].get(keyword) if items else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None or value == "" or len(value) == 0:
        return None
    numbers = tuple(float(part) for part in value)
    return numbers if np.isfinite(numbers).all() else None


def _are_one(first: tuple[float, ...] | None, second: tuple[float, ...] | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.abs(np.subtract(first, second)).max() < ORIENTATION_TOLERANCE)


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(part) for part in value] if isinstance(value, MultiValue | list | tuple) else [str(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, MultiValue | list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, int | float):
        return value if value is None else float(value)
    return str(value)
