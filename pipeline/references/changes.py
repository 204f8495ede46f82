"""Search for a change after which a reference fits its predictions: moved, mirrored, or with two classes exchanged.

Resampling, reorienting or renumbering can spoil a reference as a whole: it lies beside the structure, and looks right
by itself. Predictions of networks that never saw the case reveal this if several of them agree.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

from pipeline.metrics.boxes import Labels, bounding_box
from pipeline.metrics.overlap import Counts

LARGEST_SHIFT_MM = 10.0
LARGEST_SHIFT_VOXELS = 20
"""Longest shift along each axis; both limits apply."""

MAXIMUM_CLASSES = 8
"""Number of classes, the largest of the reference, that the search for a shift compares."""

MAXIMUM_VOXELS = 2**24
"""Size of the box around all structures beyond which the search for a shift skips voxels along the finest axes."""

SMALLEST_GAIN = 0.03
"""Smallest gain in mean Dice that is a reason to look at a reference."""

SMALLEST_SHARE = 1 / 3
"""Smallest share of the gap that a change must close.

The gap is the Dice between predictions minus the Dice of predictions and reference. Changes of displaced references of
the hippocampus dataset closed 0.40 to 0.61 of it, those of all others at most 0.25.
"""

ROUNDING = 1e-5
"""Differences in Dice that may come from rounding in a Fourier transform in float32."""

Shift = tuple[int, int, int]
"""Voxels along each axis."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a whole reference (X, Y, Z).

    Attributes
    ----------
    kind
        ``moved``, ``mirrored`` or ``exchanged``.
    shift
        Voxels along each axis by which the reference is moved.
    axis
        Axis along which the reference is mirrored, about the middle of the image.
    classes
        The two label values that are exchanged.

    Examples
    --------
    >>> labels = np.array([[[1, 2, 0]]])
    >>> Change("moved", (0, 0, 1)).applied_to(labels).tolist()
    [[[0, 1, 2]]]
    >>> Change("exchanged", classes=(1, 2)).applied_to(labels).tolist()
    [[[2, 1, 0]]]
    """

    kind: Literal["moved", "mirrored", "exchanged"]
    shift: Shift = (0, 0, 0)
    axis: int | None = None
    classes: tuple[int, int] | None = None

    def applied_to(self, reference: Labels) -> Labels:
        """Return the reference (X, Y, Z) after the change; voxels that enter from outside the image are background."""
        if self.axis is not None:
            return np.flip(reference, self.axis)
        if self.classes is not None:
            one, other = self.classes
            return np.where(reference == one, other, np.where(reference == other, one, reference))
        result = np.zeros_like(reference)
        sizes = list(zip(self.shift, reference.shape, strict=True))
        here = tuple(slice(max(0, by), max(0, size + min(0, by))) for by, size in sizes)
        there = tuple(slice(max(0, -by), max(0, size - max(0, by))) for by, size in sizes)
        result[here] = reference[there]
        return result


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A change after which a reference would fit its predictions.

    Attributes
    ----------
    change
        The change of the reference.
    dice, dice_changed
        Mean Dice over predictions and classes, of the reference as it is and after the change.
    agreement
        Mean Dice between any two of the predictions.
    """

    change: Change
    dice: float
    dice_changed: float
    agreement: float


def suspected_change(reference: Labels, predictions: Sequence[Labels], spacing_mm: Sequence[float]) -> Suspicion | None:
    """Return the change after which a reference fits all predictions much better, None if there is none.

    Dice with each prediction must be higher after the change. The mean gain must be at least `SMALLEST_GAIN`, and
    at least `SMALLEST_SHARE` of the gap between the Dice of the predictions with each other and their Dice with the
    reference. Shifts are whole voxels, at most `LARGEST_SHIFT_MM` and `LARGEST_SHIFT_VOXELS` along each axis.

    Parameters
    ----------
    reference
        Label values (X, Y, Z); 0 is background.
    predictions
        Label values on the same grid, by two or more networks that were not trained on this reference.
    spacing_mm
        Edges of a voxel in mm.
    """
    values = [int(value) for value in np.unique(reference) if value]
    if not values or len(predictions) < 2:
        return None
    before = np.array([mean_dice(reference, one, values) for one in predictions])
    agreement = float(np.mean([mean_dice(*two, values) for two in combinations(predictions, 2)]))
    gap = agreement - float(before.mean())
    if gap < SMALLEST_GAIN:
        return None
    needed = max(SMALLEST_GAIN, SMALLEST_SHARE * gap)
    best: Suspicion | None = None
    for change in _changes(reference, predictions, values, spacing_mm):
        changed = change.applied_to(reference)
        after = np.array([mean_dice(changed, one, values) for one in predictions])
        gain = float((after - before).mean())
        if gain >= needed and np.all(after > before) and (best is None or after.mean() > best.dice_changed):
            best = Suspicion(change, float(before.mean()), float(after.mean()), agreement)
    return best


def mean_dice(first: Labels, second: Labels, values: Sequence[int]) -> float:
    """Return the mean Dice over classes; a class that is in neither of the label arrays counts as 1.

    Examples
    --------
    >>> mean_dice(np.array([1, 1, 0]), np.array([1, 0, 0]), [1])
    0.6666666666666666
    """
    overlaps = _overlaps(first, second, values)
    sizes = zip(overlaps.sum(axis=1), overlaps.sum(axis=0), np.diagonal(overlaps), strict=True)
    classes = [Counts(*map(int, counts)) for counts in sizes][1:]
    return float(np.mean([one.dice if one.reference or one.prediction else 1.0 for one in classes]))


def _overlaps(first: Labels, second: Labels, values: Sequence[int]) -> NDArray[np.int64]:
    """Count voxels by class in `first` (rows) and `second` (columns), the first class being all other values."""
    either = (first != 0) | (second != 0)
    ordered = np.asarray(values)

    def numbered(labels: Labels) -> NDArray[np.int64]:
        index = np.searchsorted(ordered, labels).clip(max=len(ordered) - 1)
        return np.where(ordered[index] == labels, index + 1, 0)

    size = len(values) + 1
    pairs = numbered(first[either]) * size + numbered(second[either])
    return np.bincount(pairs, minlength=size**2).reshape(size, size)


def best_shift(
    reference: Labels, predictions: Sequence[Labels], values: Sequence[int], spacing_mm: Sequence[float]
) -> Shift:
    """Return the shift in voxels that gives the best mean Dice over predictions and classes.

    All shifts within both limits are compared; of equally good ones, the shortest in mm is returned. If the box around
    all structures has more than `MAXIMUM_VOXELS`, shifts are multiples of two voxels or more.
    """
    box = bounding_box(np.any([labels != 0 for labels in (reference, *predictions)], axis=0))
    strides = _strides([edge.stop - edge.start for edge in box], spacing_mm)
    thinned = tuple(slice(edge.start, edge.stop, step) for edge, step in zip(box, strides, strict=True))
    edges_mm = np.multiply(spacing_mm, strides)
    reach = [
        min(max(1, round(LARGEST_SHIFT_MM / edge)), LARGEST_SHIFT_VOXELS // step)
        for edge, step in zip(edges_mm, strides, strict=True)
    ]
    # Dice of a class is twice its overlap divided by the sum of both sizes. Moving changes the overlap alone, so that
    # the mean Dice of all shifts is one correlation, which FFT computes.
    score: NDArray[np.float32] = np.zeros([2 * most + 1 for most in reach], np.float32)
    sizes = {value: np.count_nonzero(reference[thinned] == value) for value in values}
    for value in sorted(values, key=lambda value: -int(sizes[value]))[:MAXIMUM_CLASSES]:
        masks = [labels[thinned] == value for labels in predictions]
        weights = sum(mask * np.float32(2 / max(1, int(sizes[value]) + int(np.count_nonzero(mask)))) for mask in masks)
        padded = np.pad(weights, [(most, most) for most in reach])
        score += correlate(padded, (reference[thinned] == value).astype(np.float32), mode="valid", method="fft")
    steps = [np.arange(-most, most + 1) * edge for most, edge in zip(reach, edges_mm, strict=True)]
    lengths = np.linalg.norm(np.meshgrid(*steps, indexing="ij"), axis=0)
    good = np.flatnonzero(score.ravel() >= score.max() - ROUNDING)
    place = np.unravel_index(good[np.argmin(lengths.ravel()[good])], score.shape)
    i, j, k = ((int(index) - most) * step for index, most, step in zip(place, reach, strides, strict=True))
    return i, j, k


def _strides(shape: Sequence[int], spacing_mm: Sequence[float]) -> list[int]:
    """Return the step in voxels along each axis with which at most `MAXIMUM_VOXELS` voxels are taken."""
    strides = [1, 1, 1]
    while math.prod(math.ceil(size / step) for size, step in zip(shape, strides, strict=True)) > MAXIMUM_VOXELS:
        axis = int(np.argmin(np.multiply(spacing_mm, strides)))
        strides[axis] *= 2
    return strides


def _changes(
    reference: Labels, predictions: Sequence[Labels], values: Sequence[int], spacing_mm: Sequence[float]
) -> Iterator[Change]:
    """Yield the changes to try; two classes are exchanged if predictions confuse each with the other in most voxels."""
    shift = best_shift(reference, predictions, values, spacing_mm)
    if any(shift):
        yield Change("moved", shift)
    for axis in range(3):
        yield Change("mirrored", axis=axis)
    counts = np.sum([_overlaps(reference, labels, values) for labels in predictions], axis=0)
    for (i, a), (j, b) in combinations(enumerate(values, start=1), 2):
        if counts[i, j] > counts[i, i] and counts[j, i] > counts[j, j]:
            yield Change("exchanged", classes=(a, b))
