"""Dice of one class at every threshold of its probability, from one pass over the voxels."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.overlap import Counts
from pipeline.metrics.states import state_of

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""0.05, 0.10 … 0.95."""


def dice_at_thresholds(reference: NDArray[np.bool_], probability: NDArray[np.float32]) -> tuple[float | None, ...]:
    """Return the Dice of ``probability >= threshold`` against the reference, for each of `THRESHOLDS`.

    Parameters
    ----------
    reference
        Mask of one class, of any shape.
    probability
        Of this class, of the same shape, in 0..1.

    Returns
    -------
    tuple
        0 where one of the two masks is empty, None where both are (a correct absence has no overlap).
    """
    likely = probability >= np.float32(THRESHOLDS[0])
    passed = np.searchsorted(np.asarray(THRESHOLDS, np.float32), probability[likely], side="right")
    size = len(THRESHOLDS) + 1
    predicted = np.bincount(passed, minlength=size)[::-1].cumsum()[::-1][1:]
    both = np.bincount(passed[reference[likely]], minlength=size)[::-1].cumsum()[::-1][1:]
    voxels = int(np.count_nonzero(reference))
    return tuple(
        None if state_of(voxels, int(p)) == "correct_absence" else Counts(voxels, int(p), int(b)).dice
        for p, b in zip(predicted, both, strict=True)
    )
