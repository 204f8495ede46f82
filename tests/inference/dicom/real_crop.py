"""The real crop of 32 slices around a hippocampus, its mutations, and a model whose training ranges include it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicom_series import REAL_STUDY, ROOT
from pydicom.dataset import FileDataset

sys.path.append(str(ROOT / "tests" / "inference"))
from small_model import small_model

from pipeline.bundle.model import Model

SLICES = 32
needs_the_real_study = pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")


def crop() -> list[FileDataset]:
    """Return the slices from the lowest to the highest."""
    datasets = [pydicom.dcmread(path) for path in (REAL_STUDY / "13_HCropVolume").iterdir()]
    return sorted(datasets, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


def save(folder: Path, datasets: list[FileDataset]) -> Path:
    """Write slices unchanged, even if their values are invalid."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number:02d}.dcm")
    return folder


def mutated(folder: Path, change: Callable[[list[FileDataset]], list[FileDataset] | None]) -> Path:
    """Write the crop after a change, made in place or returned."""
    datasets = crop()
    return save(folder, change(datasets) or datasets)


def model_for_the_crop(**changes: object) -> Model:
    """Return a model whose training data had the size, spacing and intensity of the crop."""
    ranges = {"spacing_mm": [(1.0, 1.0)] * 3, "shape": [(30, 60)] * 3, "intensity": [(0.0, 1e5)]}
    return small_model(fingerprint=ranges, **changes)
