"""What would make a reference suit its predictions: moved, mirrored, or with two of its classes exchanged.

References go wrong as a whole where they are resampled, reoriented or renumbered: they lie beside what they are of, and
look right by themselves. Predictions by networks that never saw the case show it where several agree.
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
MOST_CLASSES = 8
"""Of the reference, the largest: that a shift is looked for with."""

MOST_VOXELS = 2**24
"""Around all structures: of more, every second voxel along the finest axes is compared in the search for a shift."""

SMALLEST_GAIN = 0.03
"""In mean Dice; less is no reason to look at a reference."""

SMALLEST_SHARE = 1 / 3
"""Of what predictions miss in the reference beyond what they miss in each other: that a change is to explain.

Displaced references of the hippocampus dataset had 0.40 to 0.61, all others 0.25 at most.
"""

ROUNDING = 1e-5
"""Differences in Dice that may be those of a Fourier transform in float32."""

Shift = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a whole reference (X, Y, Z).

    Attributes
    ----------
    kind
        ``moved``, ``mirrored`` or ``exchanged``.
    shift
        Of a reference that is moved: voxels along each axis.
    axis
        Across which a mirrored one is turned over, in the middle of the image.
    classes
        The two values that are exchanged.
    """

    kind: Literal["moved", "mirrored", "exchanged"]
    shift: Shift = (0, 0, 0)
    axis: int | None = None
    classes: tuple[int, int] | None = None

    def applied_to(self, reference: Labels) -> Labels:
        """Return the reference after the change; what comes in from outside is background."""
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
    """A change that would make a reference suit its predictions.

    Attributes
    ----------
    change
        What to do with the reference.
    dice, dice_changed
        Mean Dice over predictions and classes of the reference as it is and as it would be.
    agreement
        Mean Dice between any two of the predictions.
    """

    change: Change
    dice: float
    dice_changed: float
    agreement: float


def suspected_change(reference: Labels, predictions: Sequence[Labels], spacing_mm: Sequence[float]) -> Suspicion | None:
    """Return the change after which a reference suits all predictions much better, None where there is none.

    A change counts where Dice with each prediction is higher after it, by `SMALLEST_GAIN` on average, and where that
    is `SMALLEST_SHARE` of what lies between the reference and how well the predictions agree with each other. Shifts
    are whole voxels, along each axis at most `LARGEST_SHIFT_MM` and `LARGEST_SHIFT_VOXELS`.

    Parameters
    ----------
    reference
        Labels (X, Y, Z), 0 is background.
    predictions
        Two or more, on the same grid, of networks that were not trained on this reference.
    spacing_mm
        Edges of a voxel.
    """
    values = [int(value) for value in np.unique(reference) if value]
    if not values or len(predictions) < 2:
        return None
    before = np.array([mean_dice(reference, one, values) for one in predictions])
    agreement = float(np.mean([mean_dice(*two, values) for two in combinations(predictions, 2)]))
    missing = agreement - float(before.mean())
    if missing < SMALLEST_GAIN:
        return None
    needed = max(SMALLEST_GAIN, SMALLEST_SHARE * missing)
    best: Suspicion | None = None
    for change in _changes(reference, predictions, values, spacing_mm):
        changed = change.applied_to(reference)
        after = np.array([mean_dice(changed, one, values) for one in predictions])
        gain = float((after - before).mean())
        if gain >= needed and np.all(after > before) and (best is None or after.mean() > best.dice_changed):
            best = Suspicion(change, float(before.mean()), float(after.mean()), agreement)
    return best


def mean_dice(first: Labels, second: Labels, values: Sequence[int]) -> float:
    """Return the mean Dice over classes; 1 for a class that neither holds."""
    overlaps = _overlaps(first, second, values)
    sizes = zip(overlaps.sum(axis=1), overlaps.sum(axis=0), np.diagonal(overlaps), strict=True)
    classes = [Counts(*map(int, counts)) for counts in sizes][1:]
    return float(np.mean([one.dice if one.reference or one.prediction else 1.0 for one in classes]))


def _overlaps(first: Labels, second: Labels, values: Sequence[int]) -> NDArray[np.int64]:
    """Return voxels of each class in the one and each in the other, (1 + classes)²; all others are the first."""
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
    """Return by how many voxels to move the reference for the best mean Dice over predictions and classes.

    All shifts up to both limits along each axis are compared, as a correlation by FFT: Dice of a class is its overlap
    by the sum of two sizes, which moving does not change. Of equally good ones the shortest. Where structures spread
    over more than `MOST_VOXELS`, steps are of two voxels and more.
    """
    box = bounding_box(np.any([labels != 0 for labels in (reference, *predictions)], axis=0))
    strides = _strides([edge.stop - edge.start for edge in box], spacing_mm)
    thinned = tuple(slice(edge.start, edge.stop, step) for edge, step in zip(box, strides, strict=True))
    edges_mm = np.multiply(spacing_mm, strides)
    reach = [
        min(max(1, round(LARGEST_SHIFT_MM / edge)), LARGEST_SHIFT_VOXELS // step)
        for edge, step in zip(edges_mm, strides, strict=True)
    ]
    score: NDArray[np.float32] = np.zeros([2 * most + 1 for most in reach], np.float32)
    sizes = {value: np.count_nonzero(reference[thinned] == value) for value in values}
    for value in sorted(values, key=lambda value: -int(sizes[value]))[:MOST_CLASSES]:
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
    """Return every how many voxels along each axis to take, so that no more than `MOST_VOXELS` are taken."""
    strides = [1, 1, 1]
    while math.prod(math.ceil(size / step) for size, step in zip(shape, strides, strict=True)) > MOST_VOXELS:
        axis = int(np.argmin(np.multiply(spacing_mm, strides)))
        strides[axis] *= 2
    return strides


def _changes(
    reference: Labels, predictions: Sequence[Labels], values: Sequence[int], spacing_mm: Sequence[float]
) -> Iterator[Change]:
    """Give what is to be tried: classes are exchanged where predictions take each more often for the other."""
    shift = best_shift(reference, predictions, values, spacing_mm)
    if any(shift):
        yield Change("moved", shift)
    for axis in range(3):
        yield Change("mirrored", axis=axis)
    counts = np.sum([_overlaps(reference, labels, values) for labels in predictions], axis=0)
    for (i, a), (j, b) in combinations(enumerate(values, start=1), 2):
        if counts[i, j] > counts[i, i] and counts[j, i] > counts[j, j]:
            yield Change("exchanged", classes=(a, b))
