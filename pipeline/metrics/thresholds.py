"""Dice of one class at every threshold of its probability, from one pass over the voxels."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.empty_masks import state_of
from pipeline.metrics.overlap import Counts
from pipeline.records.states import State

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""0.05, 0.10 … 0.95."""


def dice_at_thresholds(reference: NDArray[np.bool_], probability: NDArray[np.float32]) -> tuple[float | None, ...]:
    """Return the Dice of ``probability >= threshold`` with the reference, for each of `THRESHOLDS`.

    Parameters
    ----------
    reference
        Mask of one class, of any shape.
    probability
        Probability of this class in 0..1, of the same shape.

    Returns
    -------
    tuple
        0 where one of the two masks is empty, None where both are (a correct absence has no overlap).

    Examples
    --------
    >>> reference = np.array([True, True, False])
    >>> probability = np.array([0.9, 0.4, 0.6], np.float32)
    >>> dice = dice_at_thresholds(reference, probability)
    >>> [round(dice[THRESHOLDS.index(threshold)], 2) for threshold in (0.3, 0.5, 0.8)]
    [0.8, 0.5, 0.67]
    """
    # Voxels are counted by the number of thresholds that they reach; sums from above give the mask at each threshold.
    # Voxels below the first threshold, by far the most, are in no mask.
    likely = probability >= np.float32(THRESHOLDS[0])
    reached = np.searchsorted(np.asarray(THRESHOLDS, np.float32), probability[likely], side="right")
    size = len(THRESHOLDS) + 1
    predicted = np.bincount(reached, minlength=size)[::-1].cumsum()[::-1][1:]
    both = np.bincount(reached[reference[likely]], minlength=size)[::-1].cumsum()[::-1][1:]
    voxels = int(np.count_nonzero(reference))
    return tuple(
        None if state_of(voxels, int(p)) is State.CORRECT_ABSENCE else Counts(voxels, int(p), int(b)).dice
        for p, b in zip(predicted, both, strict=True)
    )
