"""Images, references and predictions of a study, in R, A, S orientation."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.data.annotation import Annotation
from pipeline.records.run import RunTrace
from pipeline.records.study import CaseFiles, DatasetSummary, StudyRecord

PLANES = ("sagittal", "coronal", "axial")
"""Plane across each axis of a volume in R, A, S orientation."""

# nibabel reads lazily: a file that was cut off or is not an image fails in many ways, some of them only when its voxels
# are read.
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    nib.filebasedimages.ImageFileError,
)

Labels = NDArray[np.int16]
SpacingMm = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Volume:
    """Image and reference of one case on one grid.

    Attributes
    ----------
    image
        Intensities (X, Y, Z) of the first channel; non-finite values are replaced.
    reference
        Label values (X, Y, Z).
    spacing_mm
        Edges of a voxel in mm.
    """

    image: NDArray[np.float32]
    reference: Labels
    spacing_mm: SpacingMm


def annotation_of(files: CaseFiles, dataset: DatasetSummary) -> Annotation:
    """Return what is known of the label of a case."""
    return Annotation(dataset.ignore_label, dataset.values_of(files.annotated))


def read_labels(path: str | Path) -> tuple[Labels, SpacingMm] | None:
    """Return label values (X, Y, Z) and the edges of a voxel in mm; None if the file cannot be read."""
    try:
        image = _load_ras(path)
        voxels = np.asarray(np.rint(np.asarray(image.dataobj)), dtype=np.int16)
        return voxels.reshape(voxels.shape[:3]), _spacing_mm(image)
    except _UNREADABLE:
        return None


def read_volume(files: CaseFiles) -> Volume | None:
    """Return image and reference of a case; None if either cannot be read or their shapes differ."""
    labels = read_labels(files.label) if files.label else None
    if labels is None or not files.images:
        return None
    try:
        image = _load_ras(files.images[0])
        voxels = np.asarray(image.dataobj, dtype=np.float32)
        spacing_mm = _spacing_mm(image)
    except _UNREADABLE:
        return None
    voxels = np.nan_to_num(voxels.reshape(*voxels.shape[:3], -1)[..., 0])
    return Volume(voxels, labels[0], spacing_mm) if voxels.shape == labels[0].shape else None


class Volumes:
    """Reader of the volumes of a study.

    Images and references are read once each. `missing` collects descriptions of files that could not be shown.
    """

    def __init__(self, settings: StudyRecord, runs: Sequence[RunTrace]) -> None:
        self.cases, self.runs, self.dataset = settings.cases, runs, settings.dataset
        self.missing: set[str] = set()
        self._volumes: dict[str, Volume | None] = {}

    def volume(self, case: str) -> Volume | None:
        """Return image and reference of a case; None if they cannot be read."""
        if case not in self._volumes:
            files = self.cases.get(case, CaseFiles())
            volume = read_volume(files)
            if volume is None:
                self.missing.add(f"image or label of {case}")
            else:
                known = annotation_of(files, self.dataset).known_labels(volume.reference)
                volume = replace(volume, reference=known)
            self._volumes[case] = volume
        return self._volumes[case]

    def reference(self, case: str) -> tuple[Labels, SpacingMm] | None:
        """Return the reference of a case and the edges of a voxel in mm.

        It is None if it cannot be read, and in a dataset with an ignore label, whose references are not whole.
        """
        files = self.cases.get(case, CaseFiles())
        if self.dataset.ignore_label is not None or not files.label:
            return None
        found = read_labels(files.label)
        return found and (annotation_of(files, self.dataset).known_labels(found[0]), found[1])

    def predictions(self, losses: Sequence[str], case: str, shape: tuple[int, ...]) -> dict[str, Labels]:
        """Return the masks by the first seed of each loss; unreadable masks and those of other shapes are left out."""
        masks = {loss: self._prediction(loss, case, shape) for loss in losses}
        return {loss: mask for loss, mask in masks.items() if mask is not None}

    def _prediction(self, loss: str, case: str, shape: tuple[int, ...]) -> Labels | None:
        for run in self.runs:
            if run.record is not None and run.key.loss == loss and case in run.record.cases:
                labels = read_labels(run.folder.predictions / f"{case}.nii.gz")
                if labels is not None and labels[0].shape == shape:
                    return labels[0]
        return None


def _spacing_mm(image: Any) -> SpacingMm:
    x, y, z = (float(edge) for edge in image.header.get_zooms()[:3])
    return x, y, z


def _load_ras(path: str | Path) -> Any:
    """Return an image with its axes in R, A, S order."""
    reorient: Any = nib.funcs.as_closest_canonical
    return reorient(nib.load(path))
