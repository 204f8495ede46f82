"""Whether probabilities mean what they say: expected calibration error and Brier score of one class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.surface import Mask

BINS = 15


def expected_calibration_error(probability: NDArray[np.floating[Any]], truth: Mask) -> float:
    """Return the mean gap between confidence and frequency over 15 equal bins (Guo et al. 2017), in 0..1."""
    p = np.asarray(probability, dtype=np.float64).ravel()
    t = truth.ravel()
    bins = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    gap = np.bincount(bins, weights=p - t, minlength=BINS)
    return float(np.abs(gap).sum() / p.size)


def brier_score(probability: NDArray[np.floating[Any]], truth: Mask) -> float:
    """Return the mean squared difference of probability and truth, in 0..1."""
    return float(np.mean((np.asarray(probability, dtype=np.float64) - truth) ** 2))
