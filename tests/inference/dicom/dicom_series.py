"""Synthetic DICOM series with given geometry, pixels and tags."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROOT = Path(__file__).parents[3]
REAL_STUDY = ROOT.parent / "shared" / "data" / "dicom" / "hippocampus_study"

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

MODEL = SimpleNamespace(
    name="hippocampus",
    version="1.2.0",
    sha256="ab" * 32,
    classes={0: "background", 1: "anterior", 2: "posterior"},
    segments={
        1: {
            "label": "Anterior hippocampus",
            "category": {"value": "123037004", "scheme": "SCT", "meaning": "Anatomical Structure"},
            "type": {"value": "5366008", "scheme": "SCT", "meaning": "Hippocampus"},
            "color": [230, 60, 40],
        },
        2: {
            "label": "Posterior hippocampus",
            "category": {"value": "123037004", "scheme": "SCT", "meaning": "Anatomical Structure"},
            "type": {"value": "5366008", "scheme": "SCT", "meaning": "Hippocampus"},
            "color": [40, 90, 230],
        },
    },
)


def uid(*words: Any) -> str:
    """Return a UID that is the same for the same words."""
    return str(generate_uid(entropy_srcs=[str(word) for word in words]))


def pixels(shape: tuple[int, int, int] = (5, 7, 6), seed: int = 0) -> np.ndarray:
    """Return int16 values (slices, rows, columns) with different slices."""
    return np.random.default_rng(seed).integers(-200, 1500, shape).astype(np.int16)


def slices(
    array: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, 20.0, 30.0),
    step: Sequence[float] | None = None,
    gap_mm: float = 3.0,
    spacing: Sequence[float] = (1.5, 1.5),
    series: str = "series",
    study: str = "study",
    tags: Mapping[str, Any] | None = None,
) -> list[FileDataset]:
    """Return one dataset for each slice; `step` is from slice to slice in mm, along the normal by default."""
    normal = np.cross(orientation[:3], orientation[3:])
    step = normal * gap_mm if step is None else np.asarray(step)
    made = []
    for number, plane in enumerate(array):
        dataset = _new(MRImageStorage, uid(series, number), plane)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(study), uid(series)
        dataset.FrameOfReferenceUID = uid(study, "frame")
        dataset.SeriesDescription, dataset.SeriesNumber, dataset.InstanceNumber = "T1 volume", 4, number + 1
        dataset.ImagePositionPatient = [float(round(value, 9)) for value in np.asarray(origin) + number * step]
        dataset.ImageOrientationPatient = [float(round(value, 9)) for value in orientation]
        dataset.PixelSpacing = list(spacing)
        dataset.SliceThickness = gap_mm
        for keyword, value in (tags or {}).items():
            setattr(dataset, keyword, value)
        if dataset.Modality == "CT":
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        made.append(dataset)
    return made


def enhanced(
    array: np.ndarray,
    *,
    order: Sequence[int],
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.8, 1.3),
) -> FileDataset:
    """Return a multi-frame MR whose frames are stored in `order` of their positions, each with its own rescaling."""
    dataset = _new(EnhancedMRImageStorage, uid("enhanced"), array[list(order)])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("enhanced series")
    dataset.FrameOfReferenceUID, dataset.SeriesNumber, dataset.InstanceNumber = uid("study", "frame"), 9, 1
    dataset.NumberOfFrames = len(array)
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(spacing)
    shared.PixelMeasuresSequence[0].SliceThickness = 2.0
    dataset.SharedFunctionalGroupsSequence = [shared]
    normal = np.cross(orientation[:3], orientation[3:])
    frames = []
    for place in order:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(v) for v in 2.0 * place * normal + (5, -6, 7)]
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 1 + place / 4
        frame.PixelValueTransformationSequence[0].RescaleIntercept = -10 * place
        frame.PixelValueTransformationSequence[0].RescaleType = "US"
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].DimensionIndexValues = [place + 1]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def write(folder: Path, datasets: Sequence[Dataset], *, names: str = "f{}") -> Path:
    """Write datasets under names that do not show their order."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(5).permutation(len(datasets))
    for name, index in enumerate(order):
        datasets[index].save_as(folder / names.format(name), enforce_file_format=True)
    return folder


def _new(sop_class: str, sop_uid: str, array: np.ndarray) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_uid
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "12345"
    dataset.StudyDate, dataset.StudyTime, dataset.SeriesDate, dataset.SeriesTime = (
        "20240102",
        "101112",
        "20240102",
        "103000",
    )
    dataset.set_pixel_data(array, "MONOCHROME2", 16, generate_instance_uid=False)
    return dataset


def reread(dataset: Dataset, path: Path) -> Dataset:
    """Return a dataset as it is read back after it was written."""
    dataset.save_as(path, enforce_file_format=True)
    return pydicom.dcmread(path)
