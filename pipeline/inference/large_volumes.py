"""Volumes too large to hold all scores: prepared, predicted and decided slab by slab.

The steps are those of the bundle. What differs is rounding: where the grid has to be resampled back, probabilities are
kept in 16 bits. Probabilities of all classes lie on the disk, never in memory at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from monai.data.utils import compute_shape_offset, zoom_affine
from scipy.ndimage import affine_transform

from pipeline.errors import BundleError
from pipeline.inference.disk_array import Scratch
from pipeline.inference.scoring import Precision, predictor
from pipeline.network.sliding_window import decide, sliding_slabs

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_orientations: Any = nib.orientations
_SLAB = 16
_CHUNK_VOXELS = 1 << 24
_FULL = 65535
"""A probability of 1, as kept in 16 bits."""


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of all classes on the grid of the input, as stored; background first.

    Parameters
    ----------
    shape
        (C, X, Y, Z).
    kept
        (C, x, y, z) on the planned grid, turned as the input's axes are stored: float32, or 16 bits for 0 to 1.
    step
        (4, 4) from voxel indices of the input to those of `kept`; None where both grids are one.
    """

    shape: tuple[int, int, int, int]
    kept: np.ndarray
    step: np.ndarray | None
    scratch: Scratch

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield (z, Y, X) float32, C-contiguous: in the order of a NIfTI file, class after class."""
        _, x, y, z = self.shape
        rows = max(1, _CHUNK_VOXELS // (x * y))
        for volume in self.kept:
            last_first = volume.transpose(2, 1, 0)
            for start in range(0, z, rows):
                stop = min(start + rows, z)
                if self.step is None:
                    chunk = np.ascontiguousarray(last_first[start:stop], dtype=np.float32)
                else:
                    step = self.step[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
                    chunk = resample_slab(last_first, step, (start, stop), (z, y, x))
                if self.kept.dtype != np.float32:
                    chunk /= _FULL
                yield chunk
                self.scratch.forget()


def predict_large(
    model: "Model",
    images: Sequence[Path],
    precision: Precision,
    scratch: Path,
    *,
    tta: bool = False,
    probabilities: bool = False,
) -> tuple[np.ndarray, Probabilities | None]:
    """Return the mask (X, Y, Z) of label values on the grid of the input, axes as stored, and probabilities if asked.

    Parameters
    ----------
    scratch
        A folder on the disk for what does not fit into memory: 2 bytes a voxel and class where the grid is resampled;
        else 4, with `probabilities` only.

    Raises
    ------
    BundleError
        Where the bundle's transforms are not those that `segloss export` writes.
    FloatingPointError
        Where a score is not finite.
    OSError
        Where the disk has too little room for `scratch`.
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
    stored_shape = raw[0].shape
    del raw, channels
    prepared: Any = torch.from_numpy(image)
    for transform in normalising:
        prepared = transform({"image": prepared})["image"]
    prepared = torch.as_tensor(prepared).as_subclass(torch.Tensor)
    del image
    back = _orientations.ornt_transform(_orientations.axcodes2ornt("RAS"), turn)
    count = len(model.classes) + 1
    kept = None
    if probabilities or not same_grid:
        kept = Scratch(scratch, (count, *target), np.float32 if same_grid else np.uint16)
    classes = _classes(prepared, predictor(model, precision, tta), model, kept)
    if not same_grid:
        assert kept is not None
        classes = _likeliest(kept, np.linalg.inv(step), shape)
    found = None
    if probabilities:
        assert kept is not None
        found = Probabilities(
            (count, *stored_shape),
            _turned(kept.array, back),
            None if same_grid else _step_as_stored(np.linalg.inv(step), turn, stored_shape, back, target),
            kept,
        )
    mask = torch.from_numpy(np.ascontiguousarray(_orientations.apply_orientation(classes, back)))[None]
    for transform in finishing:
        mask = transform({"pred": mask})["pred"]
    values: np.ndarray = np.asarray(mask)[0].astype(np.uint8 if max(model.classes) < 256 else np.uint16, copy=False)
    return values, found


def _turned(volumes: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return a view of (C, X, Y, Z) whose spatial axes are turned as `apply_orientation` would turn each volume."""
    whole = np.vstack([[0, 1], turn + np.array([1, 0])])
    view: np.ndarray = _orientations.apply_orientation(volumes, whole)
    return view


def _step_as_stored(
    step: np.ndarray, turn: np.ndarray, shape: Sequence[int], back: np.ndarray, target: Sequence[int]
) -> np.ndarray:
    """Return `step` (from the input's to planned indices, both in R, A, S order) for both in the order as stored."""
    to_ras = np.linalg.inv(_orientations.inv_ornt_aff(turn, shape))
    from_ras = np.linalg.inv(_orientations.inv_ornt_aff(back, target))
    composed: np.ndarray = from_ras @ step @ to_ras
    return composed


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
    image: torch.Tensor, predict: Callable[[torch.Tensor], torch.Tensor], model: "Model", kept: Scratch | None
) -> np.ndarray:
    """Return class indices (X, Y, Z) on the planned grid; probabilities go to `kept`."""
    classes = np.empty(tuple(image.shape[1:]), np.uint8 if len(model.classes) < 255 else np.uint16)
    slabs = sliding_slabs(image, predict, model.patch, model.overlap, model.batch, model.device)
    for start, scores in slabs:
        stop = start + scores.shape[1]
        classes[start:stop] = decide(scores).numpy()
        if kept is not None:
            probabilities = scores.softmax(0)
            if kept.array.dtype != np.float32:
                probabilities = (probabilities * _FULL).round()
            kept.array[:, start:stop] = probabilities.numpy()
            kept.forget()
    return classes


def _likeliest(kept: Scratch, step: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return class indices (X, Y, Z) on a grid of `shape`, from whose indices `step` leads to those of `kept`."""
    count = len(kept.array)
    classes = np.empty(tuple(shape), np.uint8 if count <= 255 else np.uint16)
    for start in range(0, shape[0], _SLAB):
        rows = (start, min(start + _SLAB, shape[0]))
        likeliest = resample_slab(kept.array[0], step, rows, shape)
        decided = np.zeros(likeliest.shape, classes.dtype)
        for index in range(1, count):
            probability = resample_slab(kept.array[index], step, rows, shape)
            decided[probability > likeliest] = index
            likeliest = np.maximum(likeliest, probability)
        classes[rows[0] : rows[1]] = decided
        kept.forget()
    return classes
