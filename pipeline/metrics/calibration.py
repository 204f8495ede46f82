"""Whether probabilities mean what they say: expected calibration error and Brier score of one class.

Both are those of the class against all others, over the voxels of one region that depends on the reference alone, so
that every loss is measured on the same voxels: its bounding box and 10 mm around it, or the whole image where the
reference is empty. Far background is right by so much that it would hide what matters at the structure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Box, Mask, bounding_box

BINS = 15
MARGIN_MM = 10.0

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
        For values that are no probabilities.
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
        For values that are no probabilities.
    """
    return float(np.mean((_checked(probability) - truth) ** 2))


def _checked(probability: Probability) -> NDArray[np.float64]:
    """Return the probabilities in double precision, rounding beyond 0 and 1 taken back."""
    p = np.asarray(probability, dtype=np.float64)
    low, high = float(p.min()), float(p.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"probabilities must lie in 0..1, got {low:g} to {high:g}")
    return p.clip(0, 1)
