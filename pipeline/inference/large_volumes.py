"""Volumes whose scores do not fit into memory: they are prepared, predicted and classified slab by slab.

The steps are those of the bundle. Only rounding differs: where the grid must be resampled back, probabilities are
stored in 16 bits. Probabilities of all classes lie on the disk, and never in memory at once.
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
from pipeline.inference.disk_array import DiskArray
from pipeline.inference.scoring import predictor
from pipeline.network.precision import Precision
from pipeline.network.sliding_window import predicted_classes, sliding_slabs

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_orientations: Any = nib.orientations
_SLAB = 16
"""Slices along the first axis that are resampled at once."""

_CHUNK_VOXELS = 1 << 24
"""Voxels of probabilities that are written at once."""

_FULL = 65535
"""The stored value of a probability of 1 in 16 bits."""


@dataclass(frozen=True)
class DiskProbabilities:
    """Probabilities of all classes, background first, which are resampled to the grid of the input when read.

    Parameters
    ----------
    shape
        Shape (C, X, Y, Z) on the grid of the input, axes as stored in the file.
    stored
        Probabilities (C, x, y, z) on the network's grid, its axes in the order of the input file: float32, or 16 bits
        with `_FULL` for 1.
    step
        Matrix (4, 4) from voxel indices of the input to those of `stored`; None where both grids are the same.
    disk
        The array that `stored` is a view of.
    """

    shape: tuple[int, int, int, int]
    stored: np.ndarray
    step: np.ndarray | None
    disk: DiskArray

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield chunks (z, Y, X) float32, C-contiguous, in the order of a NIfTI file: class after class."""
        _, x, y, z = self.shape
        rows = max(1, _CHUNK_VOXELS // (x * y))
        for volume in self.stored:
            last_first = volume.transpose(2, 1, 0)
            for start in range(0, z, rows):
                stop = min(start + rows, z)
                if self.step is None:
                    chunk = np.ascontiguousarray(last_first[start:stop], dtype=np.float32)
                else:
                    step = self.step[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
                    chunk = resample_slab(last_first, step, (start, stop), (z, y, x))
                if self.stored.dtype != np.float32:
                    chunk /= _FULL
                yield chunk
                self.disk.release_pages()


def predict_large(
    model: "Model",
    images: Sequence[Path],
    precision: Precision,
    work_folder: Path,
    *,
    tta: bool = False,
    probabilities: bool = False,
) -> tuple[np.ndarray, DiskProbabilities | None]:
    """Return the mask (X, Y, Z) of label values on the grid of the input, axes as stored, and any probabilities.

    Parameters
    ----------
    model
        The loaded bundle.
    images
        One file (3D, or 4D with channels last), or one 3D file for each channel.
    precision
        Number format of the network's computation.
    work_folder
        A folder on the disk for arrays that do not fit into memory. They take 2 bytes for each voxel and class where
        the grid is resampled; otherwise 4 bytes, and only with `probabilities`.
    tta
        Use test-time augmentation.
    probabilities
        Return the probabilities of all classes too.

    Raises
    ------
    BundleError
        Where the bundle's transforms are not those that `whichloss export` writes.
    FloatingPointError
        Where a score is not finite.
    OSError
        Where the disk has too little space in `work_folder`.
    """
    normalizing, finishing = _split_transforms(model)
    stored_channels, affine = _read(images)
    orientation = _orientations.io_orientation(affine)
    channels = [_orientations.apply_orientation(channel, orientation) for channel in stored_channels]
    shape = channels[0].shape
    stored_shape = stored_channels[0].shape
    ras_affine = affine @ _orientations.inv_ornt_aff(orientation, stored_shape)
    step, target = _planned_grid(ras_affine, shape, model.spacing_mm)
    is_same_grid = target == shape and np.allclose(step, np.eye(4), atol=1e-6)
    image = _resampled(channels, None if is_same_grid else step, target)
    del stored_channels, channels
    prepared: Any = torch.from_numpy(image)
    for transform in normalizing:
        prepared = transform({"image": prepared})["image"]
    prepared = torch.as_tensor(prepared).as_subclass(torch.Tensor)
    del image
    back = _orientations.ornt_transform(_orientations.axcodes2ornt("RAS"), orientation)
    count = len(model.classes) + 1
    disk = None
    if probabilities or not is_same_grid:
        disk = DiskArray(work_folder, (count, *target), np.float32 if is_same_grid else np.uint16)
    classes = _predict_classes(prepared, predictor(model, precision, tta), model, disk)
    if not is_same_grid:
        assert disk is not None
        classes = _most_probable(disk, np.linalg.inv(step), shape)
    on_disk = None
    if probabilities:
        assert disk is not None
        on_disk = DiskProbabilities(
            (count, *stored_shape),
            _reoriented(disk.array, back),
            None if is_same_grid else _step_as_stored(np.linalg.inv(step), orientation, stored_shape, back, target),
            disk,
        )
    mask = torch.from_numpy(np.ascontiguousarray(_orientations.apply_orientation(classes, back)))[None]
    for transform in finishing:
        mask = transform({"pred": mask})["pred"]
    values: np.ndarray = np.asarray(mask)[0].astype(np.uint8 if max(model.classes) < 256 else np.uint16, copy=False)
    return values, on_disk


def resample_slab(volume: np.ndarray, step: np.ndarray, rows: tuple[int, int], shape: Sequence[int]) -> np.ndarray:
    """Return the slices ``rows[0]:rows[1]`` of a volume that is resampled linearly to `shape`; borders are repeated.

    Parameters
    ----------
    volume
        Values (x, y, z).
    step
        Matrix (4, 4) from voxel indices of the result to those of `volume`.
    rows
        First slice along the first axis, and the one after the last.
    shape
        Shape (X, Y, Z) of the whole result.

    Returns
    -------
    np.ndarray
        Values (rows[1] - rows[0], Y, Z), float32.

    Examples
    --------
    >>> volume = np.arange(4.0).reshape(4, 1, 1)
    >>> half = np.diag([0.5, 1.0, 1.0, 1.0])
    >>> resample_slab(volume, half, (1, 4), (7, 1, 1)).ravel().tolist()
    [0.5, 1.0, 1.5]
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


def _resampled(channels: Sequence[np.ndarray], step: np.ndarray | None, target: Sequence[int]) -> np.ndarray:
    """Return the channels (C, X, Y, Z) float32 on the network's grid; `step` is None where it is the image's grid."""
    image = np.empty((len(channels), *target), np.float32)
    for index, channel in enumerate(channels):
        if step is None:
            image[index] = channel
            continue
        for start in range(0, target[0], _SLAB):
            stop = min(start + _SLAB, target[0])
            image[index, start:stop] = resample_slab(channel, step, (start, stop), target)
    return image


def _reoriented(volumes: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Return a view of (C, X, Y, Z) whose spatial axes are reordered as nibabel does for a single volume."""
    with_classes = np.vstack([[0, 1], orientation + np.array([1, 0])])
    view: np.ndarray = _orientations.apply_orientation(volumes, with_classes)
    return view


def _step_as_stored(
    step: np.ndarray, orientation: np.ndarray, shape: Sequence[int], back: np.ndarray, target: Sequence[int]
) -> np.ndarray:
    """Return the matrix between voxel indices as stored, for the matrix `step` between indices in R, A, S order."""
    to_ras = np.linalg.inv(_orientations.inv_ornt_aff(orientation, shape))
    from_ras = np.linalg.inv(_orientations.inv_ornt_aff(back, target))
    composed: np.ndarray = from_ras @ step @ to_ras
    return composed


def _split_transforms(model: "Model") -> tuple[list[Any], list[Any]]:
    """Return the bundle's transforms after its resampling, and those after its choice of the class."""
    from monai.transforms.post.dictionary import AsDiscreted
    from monai.transforms.spatial.dictionary import Spacingd

    before = list(model.preprocessing.transforms)
    after = list(model.deciding.transforms)
    at = [index for index, transform in enumerate(before) if isinstance(transform, Spacingd)]
    if len(at) != 1 or not after or not isinstance(after[0], AsDiscreted):
        raise BundleError(
            model.name, "has custom transforms, which cannot be run on a volume this large", "crop the volume"
        )
    return before[at[0] + 1 :], after[1:]


def _read(images: Sequence[Path]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the channels (X, Y, Z), float32 if they are scaled and otherwise as stored, and the affine (4, 4)."""
    channels: list[np.ndarray] = []
    affine = np.eye(4)
    for path in images:
        file: Any = nib.load(path)
        affine = affine if channels else np.asarray(file.affine, dtype=np.float64)
        is_scaled = (file.dataobj.slope, file.dataobj.inter) != (1, 0)
        values = np.asarray(file.dataobj, dtype=np.float32) if is_scaled else np.asanyarray(file.dataobj)
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


def _predict_classes(
    image: torch.Tensor, predict: Callable[[torch.Tensor], torch.Tensor], model: "Model", disk: DiskArray | None
) -> np.ndarray:
    """Return class indices (X, Y, Z) on the network's grid; write the probabilities of all classes to `disk`."""
    classes = np.empty(tuple(image.shape[1:]), np.uint8 if len(model.classes) < 255 else np.uint16)
    slabs = sliding_slabs(image, predict, model.patch, model.overlap, model.batch, model.device)
    for start, scores in slabs:
        stop = start + scores.shape[1]
        classes[start:stop] = predicted_classes(scores).numpy()
        if disk is not None:
            probabilities = scores.softmax(0)
            if disk.array.dtype != np.float32:
                probabilities = (probabilities * _FULL).round()
            disk.array[:, start:stop] = probabilities.numpy()
            disk.release_pages()
    return classes


def _most_probable(disk: DiskArray, step: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return class indices (X, Y, Z) on a grid of `shape`; `step` leads from its indices to those of `disk`."""
    count = len(disk.array)
    classes = np.empty(tuple(shape), np.uint8 if count <= 255 else np.uint16)
    for start in range(0, shape[0], _SLAB):
        rows = (start, min(start + _SLAB, shape[0]))
        highest = resample_slab(disk.array[0], step, rows, shape)
        best = np.zeros(highest.shape, classes.dtype)
        for index in range(1, count):
            probability = resample_slab(disk.array[index], step, rows, shape)
            best[probability > highest] = index
            highest = np.maximum(highest, probability)
        classes[rows[0] : rows[1]] = best
        disk.release_pages()
    return classes
