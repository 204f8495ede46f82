"""Read the headers of a folder of mixed files and sort its images into groups that could be one volume each."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import MediaStorageDirectoryStorage

from pipeline.errors import DatasetError
from pipeline.inference.dicom import identity
from pipeline.inference.dicom.geometry import NEARLY_PARALLEL, differ
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.identity import is_valid_uid
from pipeline.inference.dicom.reading import DAMAGED, read_file, should_have_pixels, study_uid_of_damaged
from pipeline.inference.signature import is_named_dicom, signature

_DIRECTORY, _DIRECTORY_CLASS = "DICOMDIR", MediaStorageDirectoryStorage
_POSITION, _ORIENTATION, _PIXEL_SPACING = 3, 6, 2
"""How many numbers each has."""

_TAGS = [
    *identity.TAGS,
    "SeriesNumber",
    "SeriesDescription",
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
class Damaged:
    """A DICOM file whose header cannot be read to its end; `study_uid` is empty where it cannot be read either."""

    path: Path
    study_uid: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The contents of a folder: groups of slices, damaged DICOM files, and counts of what is no image.

    Parameters
    ----------
    root
        The folder that paths are relative to.
    studies_of_folders
        The keys of the studies that have images in each folder.
    """

    root: Path
    groups: tuple[Group, ...]
    damaged: tuple[Damaged, ...]
    studies_of_folders: Mapping[Path, set[str]]
    without_pixels: int
    others: int

    def left_out(self) -> str | None:
        """Return how many files are no images, in words; None where all are."""
        counts = {"no DICOM": self.others, "DICOM without an image": self.without_pixels}
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
    without_pixels = others = 0
    damaged: list[Damaged] = []
    groups: list[Group] = []
    by_series: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    tags = {*_TAGS, *keywords}
    for path in _files(folder):
        kind = signature(path)
        if kind is None:
            others += 1
        if kind is None or path.name == _DIRECTORY:
            continue
        try:
            header = read_file(path, with_pixels=False, tags=tags)
            if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY_CLASS:
                continue
            if "Rows" in header:
                _sort_in(header, path, keywords, groups, by_series)
            elif "SOPInstanceUID" in header and not should_have_pixels(header):
                without_pixels += 1
            else:
                raise ValueError("the header ends before its last tag")
        except DAMAGED:
            study_uid = study_uid_of_damaged(path)
            # Files of other formats can begin like a data set without a preamble.
            if kind == "bare" and not study_uid and not is_named_dicom(path):
                others += 1
            else:
                damaged.append(Damaged(path, study_uid))
    studies_of_folders: dict[Path, set[str]] = defaultdict(set)
    for group in groups:
        group.close()
        for plane in group.planes:
            studies_of_folders[plane.path.parent].add(group.study_key)
    root = folder if folder.is_dir() else folder.parent
    return Scan(root, tuple(groups), tuple(damaged), studies_of_folders, without_pixels, others)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for root, folders, names in os.walk(folder):
            folders.sort()
            yield from (Path(root, name) for name in sorted(names))
        return
    kind = signature(folder)
    if kind is None:
        raise DatasetError(folder, "is no DICOM file", "name a folder with DICOM files, or a DICOMDIR")
    if kind != "part10":
        yield folder
        return
    try:
        directory = pydicom.dcmread(folder)
        records = directory.get("DirectoryRecordSequence", [])
    except DAMAGED as error:
        raise DatasetError(
            folder, f"cannot be read ({type(error).__name__})", "name the folder that holds the files"
        ) from error
    if directory.file_meta.get("MediaStorageSOPClassUID") != _DIRECTORY_CLASS:
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
    study_uid = str(header.get("StudyInstanceUID") or "")
    study_key = study_uid if is_valid_uid(study_uid) else f"{study_uid}\n{path.parent}"
    series_uid = str(header.get("SeriesInstanceUID") or "")
    key = (study_key, series_uid, frame_of_reference, matrix, is_multiframe)
    orientation = planes[0].orientation
    for group in by_series[key]:
        if not is_multiframe and _are_one(group.orientation, orientation):
            group.planes.extend(planes)
            group.identity.add(header)
            return
    number, images = header.get("SeriesNumber"), header.get("ImagesInAcquisition")
    group = Group(
        study_key=study_key,
        study_uid=study_uid,
        series_uid=series_uid,
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
    group.identity.add(header)
    by_series[key].append(group)
    groups.append(group)


def _planes(header: Dataset, path: Path) -> Iterator[Plane]:
    """Yield the slice of a single-frame file, or the frames of a multi-frame one (PS3.3, C.7.6.16)."""
    sop_uid = str(header.get("SOPInstanceUID") or "")
    if "PerFrameFunctionalGroupsSequence" not in header:
        frames = int(header.get("NumberOfFrames") or 1)
        if frames > path.stat().st_size:
            raise ValueError(f"{frames} frames in fewer bytes")
        places: list[tuple[float, ...] | None] = [None] * 3
        if frames == 1:
            places = [
                _numbers(header.get("ImagePositionPatient"), _POSITION),
                _numbers(header.get("ImageOrientationPatient"), _ORIENTATION),
                _numbers(header.get("PixelSpacing"), _PIXEL_SPACING),
            ]
        for _ in range(frames):
            yield Plane(path, sop_uid, *places)
        return
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for frame in header.PerFrameFunctionalGroupsSequence:
        yield Plane(
            path,
            sop_uid,
            _numbers(_macro(frame, shared, "PlanePositionSequence", "ImagePositionPatient"), _POSITION),
            _numbers(_macro(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient"), _ORIENTATION),
            _numbers(_macro(frame, shared, "PixelMeasuresSequence", "PixelSpacing"), _PIXEL_SPACING),
        )


def _macro(frame: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    items = frame.get(sequence) or shared.get(sequence)
    return items[0].get(keyword) if items else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return the first `count` numbers of a value; None where it is absent, short or not finite."""
    if value is None or value == "" or len(value) < count:
        return None
    numbers = tuple(float(part) for part in value)[:count]
    return numbers if np.isfinite(numbers).all() else None


def _are_one(first: tuple[float, ...] | None, second: tuple[float, ...] | None) -> bool:
    if first is None or second is None:
        return first is second
    return not differ(first, second, NEARLY_PARALLEL)


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
