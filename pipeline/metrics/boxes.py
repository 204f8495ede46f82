"""Boxes around structures, so that metrics read no other voxels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from pipeline.data.bounding_box import Box, bounding_box

__all__ = ["Box", "Labels", "Mask", "bounding_box", "class_boxes", "shift_box"]

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

_LARGEST_VALUE_TO_INDEX = 1024
"""`find_objects` allocates a slot for each value up to the largest; sparse larger values are renumbered first."""


def class_boxes(reference: Labels, prediction: Labels, values: Sequence[int]) -> dict[int, Box]:
    """Return the box around each value in both of two label maps, for the values that either holds.

    All boxes come from one pass over each map, however many values there are.

    Parameters
    ----------
    reference, prediction
        Label values (X, Y, Z) of one grid.
    values
        Label values above 0.

    Examples
    --------
    >>> reference, prediction = np.zeros((2, 6, 6), int)
    >>> reference[1, 1] = prediction[3, 2] = 7
    >>> class_boxes(reference, prediction, [2, 7])
    {7: (slice(1, 4, None), slice(1, 3, None))}
    """
    either = (reference != 0) | (prediction != 0)
    if not values or not either.any():
        return {}
    outer = bounding_box(either)
    boxes: dict[int, Box] = {}
    for labels in (reference, prediction):
        for value, box in _boxes_of_values(labels[outer], values).items():
            boxes[value] = _union(boxes[value], box) if value in boxes else box
    return {value: shift_box(box, outer) for value, box in boxes.items()}


def shift_box(box: Box, outer: Box) -> Box:
    """Return a box that is given within the crop `outer` as a box of the whole image."""
    return tuple(slice(edge.start + by.start, edge.stop + by.start) for edge, by in zip(box, outer, strict=True))


def _boxes_of_values(labels: Labels, values: Sequence[int]) -> dict[int, Box]:
    ordered = np.asarray(sorted(values), dtype=np.int64)
    if ordered[-1] > _LARGEST_VALUE_TO_INDEX:
        index = np.searchsorted(ordered, labels).clip(max=len(ordered) - 1)
        numbered = np.where(ordered[index] == labels, index + 1, 0)
        boxes = find_objects(numbered, len(ordered))
    else:
        every = find_objects(np.ascontiguousarray(labels, dtype=np.int32), int(ordered[-1]))
        boxes = [every[value - 1] for value in ordered]
    return {int(value): box for value, box in zip(ordered, boxes, strict=True) if box is not None}


def _union(first: Box, second: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
