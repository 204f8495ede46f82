"""Volumes too large to hold all scores: prepared, predicted and decided slab by slab.

The steps are those of the bundle. What differs is rounding: where the grid has to be resampled back, probabilities are
kept in 16 bits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from monai.data.utils import compute_shape_offset, zoom_affine
from scipy.ndimage import affine_transform

from pipeline.errors import BundleError
from pipeline.inference.scoring import Precision, predictor
from pipeline.training.windows import sliding_slabs

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_orientations: Any = nib.orientations
_SLAB = 16
_FULL = 65535
"""A probability of 1, as kept in 16 bits."""


def predict_large(model: "Model", images: Sequence[Path], precision: Precision) -> np.ndarray:
    """Return the mask (X, Y, Z) of label values on the grid of the input, axes as stored.

    Raises
    ------
    BundleError
        Where the bundle's transforms are not those that `segloss export` writes.
    FloatingPointError
        Where a score is not finite.
    """
    normalising, finishing = _around_the_grid(model)
    raw, affine = _read(images)
    turn = _orientations.io_orientation(affine)
    channels = [_orientations.apply_orientation(channel, turn) for channel in raw]
    shape = channels[0].shape
    ras_affine = affine @ _orientations.inv_ornt_aff(turn, raw[0].shape)
    step, target = _planned_grid(ras_affine, shape, model.spacing_mm)
    same_grid = target == shape and np.allclose(step, np.eye(4), atol=1e-6)
    image = np.empty((len(channels), *target), np.float32)
    for index, channel in enumerate(channels):
        if same_grid:
            image[index] = channel
        else:
            for start in range(0, target[0], _SLAB):
                stop = min(start + _SLAB, target[0])
                image[index, start:stop] = resample_slab(channel, step, (start, stop), target)
    del raw, channels
    prepared: Any = torch.from_numpy(image)
    for transform in normalising:
        prepared = transform({"image": prepared})["image"]
    prepared = torch.as_tensor(prepared).as_subclass(torch.Tensor)
    del image
    classes = _classes(model, prepared, precision, None if same_grid else (shape, np.linalg.inv(step)))
    back = _orientations.ornt_transform(_orientations.axcodes2ornt("RAS"), turn)
    mask = torch.from_numpy(np.ascontiguousarray(_orientations.apply_orientation(classes, back)))[None]
    for transform in finishing:
        mask = transform({"pred": mask})["pred"]
    values: np.ndarray = np.asarray(mask)[0].astype(np.uint8 if max(model.classes) < 256 else np.uint16, copy=False)
    return values


def resample_slab(volume: np.ndarray, step: np.ndarray, rows: tuple[int, int], shape: Sequence[int]) -> np.ndarray:
    """Return rows ``rows[0]:rows[1]`` of `volume` (X, Y, Z) resampled to `shape`, linearly, borders repeated.

    `step` (4, 4) leads from voxel indices of the result to those of the volume. Float32.
    """
    start, stop = rows
    resampled: np.ndarray = affine_transform(
        volume,
        step[:3, :3],
        step[:3, 3] + start * step[:3, 0],
        output_shape=(stop - start, *shape[1:]),
        output=np.float32,
        order=1,
        mode="nearest",
    )
    return resampled


def _around_the_grid(model: "Model") -> tuple[list[Any], list[Any]]:
    """Return the bundle's transforms after resampling, and those after the choice of the class."""
    from monai.transforms.post.dictionary import AsDiscreted
    from monai.transforms.spatial.dictionary import Spacingd

    before = list(model.preprocessing.transforms)
    after = list(model.deciding.transforms)
    at = [index for index, transform in enumerate(before) if isinstance(transform, Spacingd)]
    if len(at) != 1 or not after or not isinstance(after[0], AsDiscreted):
        raise BundleError(
            model.name, "has transforms of its own, which cannot be run on a volume this large", "crop the volume"
        )
    return before[at[0] + 1 :], after[1:]


def _read(images: Sequence[Path]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the channels (X, Y, Z), float32 where they are scaled, else as stored, and the affine."""
    channels: list[np.ndarray] = []
    affine = np.eye(4)
    for path in images:
        file: Any = nib.load(path)
        affine = affine if channels else np.asarray(file.affine, dtype=np.float64)
        scaled = (file.dataobj.slope, file.dataobj.inter) != (1, 0)
        values = np.asarray(file.dataobj, dtype=np.float32) if scaled else np.asanyarray(file.dataobj)
        channels += list(np.moveaxis(values, 3, 0)) if values.ndim == 4 else [values]
    return channels, affine


def _planned_grid(
    affine: np.ndarray, shape: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the grid that MONAI's `Spacing` resamples to: (4, 4) from its indices to the input's, and its shape."""
    zoomed = zoom_affine(affine, spacing_mm, diagonal=False)
    target, origin = compute_shape_offset(shape, affine, zoomed)
    zoomed[:3, 3] = origin[:3]
    x, y, z = (int(edge) for edge in target)
    return np.linalg.inv(affine) @ zoomed, (x, y, z)


def _classes(
    model: "Model",
    image: torch.Tensor,
    precision: Precision,
    resampling: tuple[Sequence[int], np.ndarray] | None,
) -> np.ndarray:
    """Return class indices (X, Y, Z) on the input's grid in R, A, S order."""
    count = len(model.classes) + 1
    dtype = np.uint8 if count < 256 else np.uint16
    planned = tuple(image.shape[1:])
    slabs = sliding_slabs(image, predictor(model, precision), model.patch, model.overlap, model.batch, model.device)
    if resampling is None:
        classes = np.empty(planned, dtype)
        for start, scores in slabs:
            classes[start : start + scores.shape[1]] = _finite(scores).argmax(0).numpy()
        return classes
    shape, step = resampling
    kept = np.empty((count, *planned), np.uint16)
    for start, scores in slabs:
        kept[:, start : start + scores.shape[1]] = (_finite(scores).softmax(0) * _FULL).round().numpy()
    classes = np.empty(shape, dtype)
    for start in range(0, shape[0], _SLAB):
        rows = (start, min(start + _SLAB, shape[0]))
        likeliest = resample_slab(kept[0], step, rows, shape)
        decided = np.zeros(likeliest.shape, dtype)
        for index in range(1, count):
            probability = resample_slab(kept[index], step, rows, shape)
            decided[probability > likeliest] = index
            likeliest = np.maximum(likeliest, probability)
        classes[rows[0] : rows[1]] = decided
    return classes


def _finite(scores: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(scores).all()):
        raise FloatingPointError("the network's output is not finite")
    return scores
