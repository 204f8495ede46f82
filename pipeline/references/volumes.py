"""Images, references and predictions of a study, in R, A, S orientation, read where the study recorded them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.records.run import RunTrace
from pipeline.records.study import StudyRecord

PLANES = ("sagittal", "coronal", "axial")
"""The plane across each axis of a volume in R, A, S orientation."""

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, nib.filebasedimages.ImageFileError)


@dataclass(frozen=True, slots=True)
class Volume:
    """Image and reference of one case."""

    image: NDArray[np.float32]
    reference: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


class Volumes:
    """Volumes of cases to be shown, read once each; what cannot be shown is remembered."""

    def __init__(self, settings: StudyRecord, runs: Sequence[RunTrace]) -> None:
        self.cases, self.runs = settings.cases, runs
        self.volumes: dict[str, Volume | None] = {}
        self.missing: set[str] = set()

    def volume(self, case: str) -> Volume | None:
        """Return image and reference of a case, None where they are gone."""
        if case not in self.volumes:
            self.volumes[case] = self._read(case)
        return self.volumes[case]

    def predictions(self, losses: Sequence[str], case: str, shape: tuple[int, ...]) -> dict[str, NDArray[np.int16]]:
        """Return the masks by the first seed of each loss, without those that are gone or on another grid."""
        found = {loss: self._prediction(loss, case, shape) for loss in losses}
        return {loss: mask for loss, mask in found.items() if mask is not None}

    def _prediction(self, loss: str, case: str, shape: tuple[int, ...]) -> NDArray[np.int16] | None:
        for run in self.runs:
            if run.record is not None and run.key.loss == loss and case in run.record.cases:
                try:
                    mask = _labels(_canonical(run.folder.predictions / f"{case}.nii.gz"))
                except _UNREADABLE:
                    continue
                if mask.shape == shape:
                    return mask
        return None

    def reference(self, case: str) -> tuple[NDArray[np.int16], tuple[float, float, float]] | None:
        """Return the reference of a case and its spacing in mm, None where it is gone."""
        try:
            label = _canonical(self.cases[case].label or "")
            return _labels(label), _spacing_mm(label)
        except _UNREADABLE:
            return None

    def _read(self, case: str) -> Volume | None:
        found = self.reference(case)
        try:
            image = _canonical(self.cases[case].images[0])
            voxels = np.asarray(image.dataobj, dtype=np.float32)
        except _UNREADABLE:
            found = None
        if found is not None:
            voxels = np.nan_to_num(voxels.reshape(*voxels.shape[:3], -1)[..., 0])
            if voxels.shape == found[0].shape:
                return Volume(voxels, found[0], _spacing_mm(image))
        self.missing.add(f"image or label of {case}")
        return None


def _labels(image: Any) -> NDArray[np.int16]:
    voxels = np.asarray(np.rint(np.asarray(image.dataobj)), dtype=np.int16)
    return voxels.reshape(voxels.shape[:3])


def _spacing_mm(image: Any) -> tuple[float, float, float]:
    x, y, z = (float(edge) for edge in image.header.get_zooms()[:3])
    return x, y, z


def _canonical(path: str | Path) -> Any:
    """Return an image with its axes in R, A, S order."""
    reorient: Any = nib.funcs.as_closest_canonical
    return reorient(nib.load(path))
