"""Smallest boxes around structures, so that metrics look at nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]
Box = tuple[slice, ...]

_LARGEST_VALUE_TO_INDEX = 1024
"""`find_objects` allocates a slot for each value up to the largest; sparse larger values are renumbered first."""


def bounding_box(mask: Mask) -> Box:
    """Return the slices of the smallest box around a mask that is not empty.

    Raises
    ------
    ValueError
        For an empty mask.
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        rest = mask[tuple(box)]
        others = tuple(i for i in range(mask.ndim) if i != axis)
        found = np.flatnonzero(rest.any(axis=others))
        if not found.size:
            raise ValueError("an empty mask has no bounding box")
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def class_boxes(reference: Labels, prediction: Labels, values: Sequence[int]) -> dict[int, Box]:
    """Return, for each of the values that either label map (X, Y, Z) holds, the box around it in both.

    All boxes come from one pass over each map, however many values there are.
    """
    either = (reference != 0) | (prediction != 0)
    if not values or not either.any():
        return {}
    outer = bounding_box(either)
    found: dict[int, Box] = {}
    for labels in (reference, prediction):
        for value, box in _boxes(labels[outer], values).items():
            found[value] = _around_both(found[value], box) if value in found else box
    return {value: shifted(box, outer) for value, box in found.items()}


def shifted(box: Box, outer: Box) -> Box:
    """Return a box given within the crop `outer` as a box of the whole image."""
    return tuple(slice(edge.start + by.start, edge.stop + by.start) for edge, by in zip(box, outer, strict=True))


def _boxes(labels: Labels, values: Sequence[int]) -> dict[int, Box]:
    ordered = np.asarray(sorted(values), dtype=np.int64)
    if ordered[-1] > _LARGEST_VALUE_TO_INDEX:
        index = np.searchsorted(ordered, labels).clip(max=len(ordered) - 1)
        numbered = np.where(ordered[index] == labels, index + 1, 0)
        found = find_objects(numbered, len(ordered))
    else:
        every = find_objects(np.ascontiguousarray(labels, dtype=np.int32), int(ordered[-1]))
        found = [every[value - 1] for value in ordered]
    return {int(value): box for value, box in zip(ordered, found, strict=True) if box is not None}


def _around_both(first: Box, second: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
