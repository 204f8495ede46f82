"""Average precision of voxels: how well probabilities rank them, independently of any threshold."""

import numpy as np
from numpy.typing import NDArray

MAXIMUM_NEGATIVES = 1_000_000
"""More negatives than this are thinned evenly. The precision changes little, and sorting a whole-body CT takes long."""


def average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], maximum_negatives: int = MAXIMUM_NEGATIVES
) -> float | None:
    """Return the area under the curve of precision over recall.

    Each positive contributes the precision at its own score as the threshold; equal scores share one threshold. A
    constant score reaches the share of positives, and a perfect ranking reaches 1.

    Parameters
    ----------
    scores
        Score of each voxel, an array of any shape.
    positive
        Voxels of the class, a Boolean array of the same shape.
    maximum_negatives
        If there are more negatives, only every k-th is used, and counts k times.

    Returns
    -------
    float or None
        Average precision, 0 to 1; None if no voxel is positive.

    Examples
    --------
    The positives rank first and third: (1/1 + 2/3) / 2.

    >>> import numpy as np
    >>> from pipeline.training.average_precision import average_precision
    >>> round(average_precision(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])), 4)
    0.8333
    """
    positives = np.sort(scores[positive])
    if not len(positives):
        return None
    negatives = scores[~positive]
    every = -(-len(negatives) // maximum_negatives) or 1
    # Sorting the positives alone is enough, and fast: they are few. Each negative is counted under the number of
    # positives whose threshold it reaches; a sum from the top gives the false positives of each threshold.
    reached = np.searchsorted(positives, negatives[::every], side="right")
    at_least = every * np.bincount(reached, minlength=len(positives) + 1)[::-1].cumsum()[::-1]
    first = np.searchsorted(positives, positives, side="left")
    true_positives = len(positives) - first
    return float(np.mean(true_positives / (true_positives + at_least[first + 1])))
