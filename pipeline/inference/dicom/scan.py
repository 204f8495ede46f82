"""Read the headers of a folder of mixed files and sort its images into groups that may each be one volume."""

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
from pipeline.inference.dicom.plural import plural
from pipeline.inference.dicom.reading import DAMAGED, read_file, should_have_pixels, study_uid_of_damaged
from pipeline.inference.dicom.rules import HeaderValue
from pipeline.inference.signature import is_named_dicom, signature

_DICOMDIR = "DICOMDIR"
_POSITION, _ORIENTATION, _PIXEL_SPACING = 3, 6, 2
"""Count of numbers of each attribute."""

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


_SeriesKey = tuple[str, str, str, tuple[int, int], bool]
"""Study, series, frame of reference, matrix, and whether the file is multi-frame."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A DICOM file whose header cannot be read to its end; `study_uid` is empty if it cannot be read either."""

    path: Path
    study_uid: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The content of a folder.

    Parameters
    ----------
    root
        The folder that locations are relative to.
    groups
        Groups of slices that may each be one volume.
    damaged
        Damaged DICOM files.
    studies_of_folders
        Keys of the studies that have images in a folder, by folder.
    without_pixels
        Number of DICOM files without an image.
    others
        Number of files that are not DICOM.
    """

    root: Path
    groups: tuple[Group, ...]
    damaged: tuple[Damaged, ...]
    studies_of_folders: Mapping[Path, set[str]]
    without_pixels: int
    others: int

    def describe_others(self) -> str | None:
        """Return a note on the number of files that are not images; None if all are."""
        counts = {"not DICOM": self.others, "DICOM without an image": self.without_pixels}
        notes = [f"{plural(count, 'file is', 'files are')} {kind}" for kind, count in counts.items() if count]
        return "; ".join(notes) or None


def scan(folder: Path, keywords: Collection[str] = ()) -> Scan:
    """Read the headers of all files below a folder, or of those that a DICOMDIR lists.

    Parameters
    ----------
    folder
        A folder, a DICOMDIR or a single DICOM file.
    keywords
        Further DICOM keywords whose values series rules compare.

    Raises
    ------
    DatasetError
        Where the folder does not exist, or a DICOMDIR cannot be read.
    """
    if not folder.exists():
        raise DatasetError(folder, "does not exist", "name a folder with DICOM files")
    without_pixels = others = 0
    damaged: list[Damaged] = []
    groups: list[Group] = []
    by_series: dict[_SeriesKey, list[Group]] = defaultdict(list)
    tags = {*_TAGS, *keywords}
    for path in _files(folder):
        kind = signature(path)
        if kind is None:
            others += 1
        if kind is None or path.name == _DICOMDIR:
            continue
        try:
            header = read_file(path, with_pixels=False, tags=tags)
            if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                continue
            if "Rows" in header:
                _add_to_group(header, path, keywords, groups, by_series)
            elif "SOPInstanceUID" in header and not should_have_pixels(header):
                without_pixels += 1
            else:
                raise ValueError("the header ends before its last tag")
        except DAMAGED:
            study_uid = study_uid_of_damaged(path)
            # Files of other formats may begin like a data set without a preamble.
            if kind == "bare" and not study_uid and not is_named_dicom(path):
                others += 1
            else:
                damaged.append(Damaged(path, study_uid))
    studies_of_folders: dict[Path, set[str]] = defaultdict(set)
    for group in groups:
        group.finalize()
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
        raise DatasetError(folder, "is not a DICOM file", "name a folder with DICOM files, or a DICOMDIR")
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
    if directory.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
        yield folder
        return
    for record in records:
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        path = folder.parent.joinpath(*([parts] if isinstance(parts, str) else parts)).resolve()
        if not path.is_relative_to(folder.parent.resolve()) or not path.is_file():
            raise DatasetError(folder, "lists a file that does not exist", "copy the whole medium, or name its folder")
        yield path


def _add_to_group(
    header: Dataset,
    path: Path,
    keywords: Iterable[str],
    groups: list[Group],
    by_series: dict[_SeriesKey, list[Group]],
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
        if not is_multiframe and _are_parallel(group.orientation, orientation):
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
        values={keyword: header_value(header.get(keyword)) for keyword in keywords},
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
        # A damaged header may claim billions of frames, for each of which a `Plane` would be made.
        if frames > path.stat().st_size:
            raise ValueError(f"{frames} frames in fewer bytes")
        # An old multi-frame file (e.g. ultrasound) has no geometry for its frames.
        geometry: list[tuple[float, ...] | None] = [None] * 3
        if frames == 1:
            geometry = [
                _numbers(header.get("ImagePositionPatient"), _POSITION),
                _numbers(header.get("ImageOrientationPatient"), _ORIENTATION),
                _numbers(header.get("PixelSpacing"), _PIXEL_SPACING),
            ]
        for _ in range(frames):
            yield Plane(path, sop_uid, *geometry)
        return
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for frame in header.PerFrameFunctionalGroupsSequence:
        yield Plane(
            path,
            sop_uid,
            _numbers(_of_frame(frame, shared, "PlanePositionSequence", "ImagePositionPatient"), _POSITION),
            _numbers(_of_frame(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient"), _ORIENTATION),
            _numbers(_of_frame(frame, shared, "PixelMeasuresSequence", "PixelSpacing"), _PIXEL_SPACING),
        )


def _of_frame(frame: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    """Return an attribute of a frame, or else the one that all frames share."""
    items = frame.get(sequence) or shared.get(sequence)
    return items[0].get(keyword) if items else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return the first `count` numbers of a value; None if it is absent, short or not finite."""
    if value is None or value == "" or len(value) < count:
        return None
    numbers = tuple(float(part) for part in value)[:count]
    return numbers if np.isfinite(numbers).all() else None


def _are_parallel(first: tuple[float, ...] | None, second: tuple[float, ...] | None) -> bool:
    if first is None or second is None:
        return first is second
    return not differ(first, second, NEARLY_PARALLEL)


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(part) for part in value] if isinstance(value, MultiValue | list | tuple) else [str(value)]


def header_value(value: Any) -> HeaderValue:
    """Return a value of pydicom as series rules compare it: a number, a text, a list of these, or None.

    Examples
    --------
    >>> header_value(MultiValue(str, ["ORIGINAL", "PRIMARY"])), header_value(3)
    (['ORIGINAL', 'PRIMARY'], 3.0)
    """
    if isinstance(value, MultiValue | list | tuple):
        return [header_value(part) for part in value]
    if value is None or isinstance(value, int | float):
        return value if value is None else float(value)
    return str(value)
