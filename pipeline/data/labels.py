"""Checks and measurements of a label map: whole numbers, voxels and connected components of each class."""

from collections.abc import Mapping

import cc3d
import numpy as np

from pipeline.data.bounding_box import bounding_box
from pipeline.data.fingerprint import ClassScan
from pipeline.data.nifti_header import NiftiHeader

MAX_CLASSES = 255
"""Largest number of different values in a label map; a file with more is taken for an image."""

LARGEST_VALUE = 65535
_ROUNDING = 1e-4
"""Largest distance of a label value from a whole number."""

_BLOCK = 1 << 18


class NotALabel(ValueError):
    """A file is not a label map; the message is the problem, with numbers."""


def label_values(stored: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Return the values of a label map as unsigned integers (uint8 or uint16).

    Values within 0.0001 of a whole number are rounded, since some programs store labels with a slope such as 1/255.

    Parameters
    ----------
    stored
        Stored numbers (N,) in any order.
    header
        Header with slope and intercept.

    Raises
    ------
    NotALabel
        There are fractions, NaN, infinities, or values outside 0 to 65535.
    """
    if stored.dtype == np.uint8 and not header.is_scaled:
        return stored
    values = np.empty(len(stored), np.uint16)
    low, high, fractional, non_finite, example = 0.0, 0.0, 0, 0, 0.0
    for start in range(0, len(stored), _BLOCK):
        block = stored[start : start + _BLOCK].astype(np.float64) * header.slope + header.intercept
        finite = np.isfinite(block)
        if not finite.all():
            non_finite += int(np.count_nonzero(~finite))
            continue
        whole = np.rint(block)
        off = np.abs(block - whole) > _ROUNDING
        if off.any():
            fractional += int(np.count_nonzero(off))
            example = float(block[np.argmax(off)])
        low, high = min(low, float(whole.min())), max(high, float(whole.max()))
        values[start : start + _BLOCK] = np.clip(whole, 0, LARGEST_VALUE)
    if non_finite:
        raise NotALabel(f"has {non_finite} voxels that are NaN or infinite")
    if fractional:
        raise NotALabel(f"has {fractional} voxels with fractions, e.g. {example:.6g}, but must hold whole numbers")
    if low < 0 or high > LARGEST_VALUE:
        raise NotALabel(f"has values from {low:g} to {high:g}, outside 0 to {LARGEST_VALUE}")
    return values


def count_values(values: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each value in a label map of unsigned integers (N,).

    Raises
    ------
    NotALabel
        There are more than `MAX_CLASSES` different values.

    Examples
    --------
    >>> count_values(np.array([0, 0, 3, 1, 3], np.uint8))
    {0: 2, 1: 1, 3: 2}
    """
    counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)
    for start in range(0, len(values), _BLOCK):
        found = np.bincount(values[start : start + _BLOCK])
        counts[: len(found)] += found
    present = np.flatnonzero(counts)
    if len(present) > MAX_CLASSES:
        raise NotALabel(f"has {len(present)} different values, more than the {MAX_CLASSES} that a label may have")
    return {int(value): int(counts[value]) for value in present}


def scan_classes(
    values: np.ndarray, counts: Mapping[int, int], spacing_mm: tuple[float, float, float], voxel_ml: float
) -> dict[int, ClassScan]:
    """Return the size of every class in a label map.

    Parameters
    ----------
    values
        Label values (X, Y, Z).
    counts
        Voxels of each value (`count_values`).
    spacing_mm
        Edges of a voxel along X, Y and Z.
    voxel_ml
        Volume of a voxel in mL.

    Returns
    -------
    dict
        Size by label value. Components are 26-connected voxels of one value. The background has none, and no extent.
    """
    sizes_of_classes = {
        value: ClassScan(voxels, voxels * voxel_ml, 0, None, None, None)
        for value, voxels in counts.items()
        if value == 0
    }
    if set(counts) <= {0}:
        return sizes_of_classes
    crop = np.array(values[bounding_box(values)], order="F")  # a copy, since cc3d refuses read-only memory
    components = cc3d.connected_components(crop, connectivity=26)
    statistics = cc3d.statistics(components)
    # All voxels of a component have one value, so that any of them tells it.
    value_of = np.zeros(len(statistics["voxel_counts"]), values.dtype)
    value_of[components.ravel(order="K")] = crop.ravel(order="K")
    sizes = np.asarray(statistics["voxel_counts"], np.int64)
    boxes = np.array([[(part.start, part.stop) for part in box] for box in statistics["bounding_boxes"][1:]])
    for value, voxels in counts.items():
        if value == 0:
            continue
        own = np.flatnonzero(value_of[1:] == value)
        low, high = boxes[own, :, 0].min(axis=0), boxes[own, :, 1].max(axis=0)
        x, y, z = ((high - low) * np.array(spacing_mm)).tolist()
        own_sizes = sizes[1:][own]
        sizes_of_classes[value] = ClassScan(
            voxels=voxels,
            volume_ml=voxels * voxel_ml,
            components=len(own),
            smallest_component_ml=float(own_sizes.min()) * voxel_ml,
            largest_component_ml=float(own_sizes.max()) * voxel_ml,
            extent_mm=(x, y, z),
        )
    return sizes_of_classes
