"""Calibration of the probabilities of one class against all others.

Expected calibration error and Brier score are means over the bounding box of the reference and 10 mm around it, or over
the whole image if the reference is empty. Distant background is predicted so well that it would hide errors at the
structure.

The foreground calibration error and the negative log likelihood are sums over the whole image, so that distant false
positives count. For the same reason as above they are not divided by the number of all voxels.

No set of voxels depends on the prediction, so that all losses are measured on the same voxels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Box, Mask, bounding_box

BINS = 15
"""Number of bins, as in Guo et al. 2017."""

MARGIN_MM = 10.0
"""Margin around the bounding box of the reference."""

MINIMUM_PROBABILITY = 0.01
"""Smaller probabilities count as 0 in the foreground calibration error. A softmax never reaches 0, and in millions of
background voxels even 0.0001 adds up to more than the volume of a small structure."""

CELLS = 1000
"""Probabilities are collected in cells of 1/1000. Adaptive bins consist of whole cells, so no voxels are sorted."""

MINIMUM_LIKELIHOOD = 1e-6
"""Limits the cost of a voxel to 13.8 nats. Softmax in float32 rounds to exactly 0 and 1, where the logarithm is
infinite."""

_VOXELS_AT_ONCE = 1 << 20
"""Bounds the working memory of a pass over a whole image."""

Probability = NDArray[np.floating[Any]]


def calibration_region(reference: Mask, spacing_mm: Sequence[float]) -> Box:
    """Return the box around a reference with a margin of 10 mm, or the whole image if the reference is empty.

    Parameters
    ----------
    reference
        Mask (X, Y, Z) of the class.
    spacing_mm
        Edges of a voxel along X, Y and Z.

    Examples
    --------
    >>> reference = np.zeros((50, 50), bool)
    >>> reference[20:22, 30] = True
    >>> calibration_region(reference, (1.0, 2.0))
    (slice(10, 32, None), slice(25, 36, None))
    """
    if not reference.any():
        return (slice(None),) * reference.ndim
    margins = [int(np.ceil(MARGIN_MM / edge)) for edge in spacing_mm]
    return tuple(
        slice(max(0, edge.start - margin), edge.stop + margin)
        for edge, margin in zip(bounding_box(reference), margins, strict=True)
    )


def expected_calibration_error(probability: Probability, truth: Mask) -> float:
    """Return the mean gap between confidence and frequency over 15 bins of equal width (Guo et al. 2017).

    Parameters
    ----------
    probability
        Probability of the class, of any shape.
    truth
        Reference mask of the same shape.

    Returns
    -------
    float
        In 0..1; bins are weighted by their number of voxels.

    Raises
    ------
    ValueError
        `probability` holds values outside 0..1 or NaN.

    Examples
    --------
    Of four voxels at 0.75 three belong to the class, so that these probabilities are calibrated:

    >>> expected_calibration_error(np.full(4, 0.75), np.array([True, True, True, False]))
    0.0
    >>> expected_calibration_error(np.full(4, 0.75), np.array([True, False, False, False]))
    0.5
    """
    p = _checked(probability).ravel()
    t = truth.ravel()
    bins = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    gap = np.bincount(bins, weights=p - t, minlength=BINS)
    return float(np.abs(gap).sum() / p.size)


def brier_score(probability: Probability, truth: Mask) -> float:
    """Return the mean squared difference of probability and truth (Brier 1950), in 0..1.

    Parameters
    ----------
    probability
        Probability of the class, of any shape.
    truth
        Reference mask of the same shape.

    Raises
    ------
    ValueError
        `probability` holds values outside 0..1 or NaN.

    Examples
    --------
    >>> brier_score(np.array([0.5, 1.0]), np.array([True, True]))
    0.125
    """
    return float(np.mean((_checked(probability) - truth) ** 2))


def foreground_calibration_error(probability: Probability, truth: Mask) -> float:
    """Return the adaptive calibration error (Nixon et al. 2019) over the foreground of reference and prediction.

    Each voxel of the image has the foreground mass ``max(probability, truth)``: 1 in the reference and its probability
    elsewhere; probabilities below 0.01 count as 0. Voxels are ordered by probability and divided into 15 bins of equal
    mass, as far as cells of 1/1000 allow. The error is the mean over bins of ``|sum(probability - truth)| / mass``,
    weighted by mass.

    Parameters
    ----------
    probability
        Probability of the class, (X, Y, Z) of the whole image.
    truth
        Reference mask of the same shape.

    Returns
    -------
    float
        In 0..1. It is 0 if each probability equals the frequency of the class among the voxels that have it, and 1 if
        the whole reference is missed or the whole prediction is a false positive.

    Raises
    ------
    ValueError
        `probability` holds values outside 0..1 or NaN.

    Examples
    --------
    >>> truth = np.zeros((4, 4, 4), bool)
    >>> truth[0, 0, 0] = True
    >>> foreground_calibration_error(truth.astype(float), truth), foreground_calibration_error(0.0 * truth, truth)
    (0.0, 1.0)
    """
    gap, mass = np.zeros((2, CELLS))
    for p, t in _blocks(probability, truth):
        relevant = p >= MINIMUM_PROBABILITY
        high, positive = p[relevant], t[relevant]
        cell = np.minimum((high * CELLS).astype(np.intp), CELLS - 1)
        expected = np.bincount(cell, weights=high, minlength=CELLS)
        hits = np.bincount(cell[positive], minlength=CELLS)
        misses = np.count_nonzero(t) - np.count_nonzero(positive)
        gap += expected - hits
        mass += expected + hits - np.bincount(cell[positive], weights=high[positive], minlength=CELLS)
        gap[0] -= misses
        mass[0] += misses
    total = mass.sum()
    if not total:
        return 0.0
    middle = np.cumsum(mass) - mass / 2
    bins = np.minimum((BINS * middle / total).astype(np.intp), BINS - 1)
    return float(min(1.0, np.abs(np.bincount(bins, weights=gap)).sum() / total))


def negative_log_likelihood(probability: Probability, truth: Mask, voxels: int) -> float:
    """Return the negative log likelihood of the whole image, divided by a given number of voxels, in nats.

    Parameters
    ----------
    probability
        Probability of the class, (X, Y, Z) of the whole image.
    truth
        Reference mask of the same shape.
    voxels
        Divisor of the sum: the number of voxels in `calibration_region`, which does not depend on the prediction. A
        mean over the image would be the smaller, the more background an image has.

    Raises
    ------
    ValueError
        `probability` holds values outside 0..1 or NaN.

    Examples
    --------
    >>> truth = np.ones((2, 2, 2), bool)
    >>> round(negative_log_likelihood(np.full((2, 2, 2), 0.5), truth, voxels=8), 3)
    0.693
    """
    total = 0.0
    for p, t in _blocks(probability, truth):
        total -= float(np.log(np.maximum(p[t], MINIMUM_LIKELIHOOD)).sum())
        total -= float(np.log1p(-np.minimum(p[~t], 1 - MINIMUM_LIKELIHOOD)).sum())
    return total / voxels


def _blocks(probability: Probability, truth: Mask) -> Iterator[tuple[NDArray[np.float64], Mask]]:
    """Yield probabilities (N,) and truth (N,) of a few slices at a time, to limit the memory."""
    slices = max(1, _VOXELS_AT_ONCE // max(1, probability[:1].size))
    for start in range(0, len(probability), slices):
        part = slice(start, start + slices)
        yield _checked(probability[part]).ravel(), truth[part].ravel()


def _checked(probability: Probability) -> NDArray[np.float64]:
    """Return the probabilities in double precision, clipped to 0..1 where rounding left this range."""
    p = np.asarray(probability, dtype=np.float64)
    low, high = float(p.min()), float(p.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"probabilities must lie in 0..1, got {low:g} to {high:g}")
    return p.clip(0, 1)
