"""Whether probabilities mean what they say, for one class against all others.

Two metrics look at the surroundings of the reference: expected calibration error and Brier score are means over its
bounding box and 10 mm around it, or over the whole image where the reference is empty. Far background is right by so
much that it would hide what matters at the structure.

Two metrics look at the whole image, so that far false positives count: the foreground calibration error and the
negative log likelihood. Neither is a mean over all voxels, for the same reason.

No set of voxels depends on the prediction: all losses are measured on the same voxels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Box, Mask, bounding_box

BINS = 15
MARGIN_MM = 10.0
RELEVANT = 0.01
"""Probabilities below it count as 0 in the foreground calibration error: a softmax never reaches 0, and in millions of
background voxels even 0.0001 adds up to more than a small structure has."""

CELLS = 1000
"""Probabilities are collected in cells of 1/1000; adaptive bins are made of whole cells, without sorting voxels."""

SMALLEST_LIKELIHOOD = 1e-6
"""A voxel costs 13.8 nats at most: softmax in float32 rounds to exactly 0 and 1, where the logarithm is infinite."""

_VOXELS_AT_ONCE = 1 << 20
"""Bounds the working memory of a pass over a whole image."""

Probability = NDArray[np.floating[Any]]


def calibration_region(reference: Mask, spacing_mm: Sequence[float]) -> Box:
    """Return the box around a reference (X, Y, Z) with its margin, cut at the image; all of the image if empty."""
    if not reference.any():
        return (slice(None),) * reference.ndim
    margins = [int(np.ceil(MARGIN_MM / edge)) for edge in spacing_mm]
    return tuple(
        slice(max(0, edge.start - margin), edge.stop + margin)
        for edge, margin in zip(bounding_box(reference), margins, strict=True)
    )


def expected_calibration_error(probability: Probability, truth: Mask) -> float:
    """Return the mean gap between confidence and frequency over 15 equal bins (Guo et al. 2017), in 0..1.

    Raises
    ------
    ValueError
        For values that are not probabilities.
    """
    p = _checked(probability).ravel()
    t = truth.ravel()
    bins = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    gap = np.bincount(bins, weights=p - t, minlength=BINS)
    return float(np.abs(gap).sum() / p.size)


def brier_score(probability: Probability, truth: Mask) -> float:
    """Return the mean squared difference of probability and truth (Brier 1950), in 0..1.

    Raises
    ------
    ValueError
        For values that are not probabilities.
    """
    return float(np.mean((_checked(probability) - truth) ** 2))


def foreground_calibration_error(probability: Probability, truth: Mask) -> float:
    """Return the adaptive calibration error (Nixon et al. 2019) over the foreground of reference and prediction.

    Each voxel of the image has the foreground mass ``max(probability, truth)``: 1 in the reference and its probability
    elsewhere, where probabilities below 0.01 count as 0. Voxels are ordered by probability and divided into 15 bins of
    equal mass, as far as cells of 1/1000 allow. The error is the mean over bins of
    ``|sum(probability - truth)| / mass``, weighted by mass.

    Parameters
    ----------
    probability
        Of the class, (X, Y, Z) of the whole image.
    truth
        Reference mask of the same shape.

    Returns
    -------
    float
        In 0..1: 0 where every probability is the frequency of the class among the voxels that have it, 1 where the
        whole reference is missed and where all of the prediction is invented.

    Raises
    ------
    ValueError
        For values that are not probabilities.
    """
    gap, mass = np.zeros((2, CELLS))
    for p, t in _blocks(probability, truth):
        relevant = p >= RELEVANT
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
    """Return the negative log likelihood of the whole image in nats, divided by a number of voxels.

    Parameters
    ----------
    probability
        Of the class, (X, Y, Z) of the whole image.
    truth
        Reference mask of the same shape.
    voxels
        What the sum is divided by: the voxels of `calibration_region`, which do not depend on the prediction. A mean
        over the image would be smaller, the more background an image has.

    Raises
    ------
    ValueError
        For values that are not probabilities.
    """
    total = 0.0
    for p, t in _blocks(probability, truth):
        total -= float(np.log(np.maximum(p[t], SMALLEST_LIKELIHOOD)).sum())
        total -= float(np.log1p(-np.minimum(p[~t], 1 - SMALLEST_LIKELIHOOD)).sum())
    return total / voxels


def _blocks(probability: Probability, truth: Mask) -> Iterator[tuple[NDArray[np.float64], Mask]]:
    """Yield probabilities (N,) and truth (N,) of some slices at a time."""
    slices = max(1, _VOXELS_AT_ONCE // max(1, probability[:1].size))
    for start in range(0, len(probability), slices):
        part = slice(start, start + slices)
        yield _checked(probability[part]).ravel(), truth[part].ravel()


def _checked(probability: Probability) -> NDArray[np.float64]:
    """Return the probabilities in double precision, with rounding errors beyond 0 and 1 removed."""
    p = np.asarray(probability, dtype=np.float64)
    low, high = float(p.min()), float(p.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"probabilities must lie in 0..1, got {low:g} to {high:g}")
    return p.clip(0, 1)
