"""Average precision of voxels: how well probabilities rank them, whatever threshold they would need."""

import numpy as np
from numpy.typing import NDArray

MAXIMUM_NEGATIVES = 1_000_000
"""More negatives than this are sampled evenly: the precision changes little, sorting a whole-body CT takes long."""


def average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], maximum_negatives: int = MAXIMUM_NEGATIVES
) -> float | None:
    """Return the area under the curve of precision over recall, None where nothing is positive.

    Each positive contributes the precision at its own score as the threshold; equal scores share one threshold. Scores
    that say nothing reach the share of positives, a perfect ranking reaches 1.

    Parameters
    ----------
    scores, positive
        Arrays of one shape.
    maximum_negatives
        Where there are more, every k-th is taken and counted k times.
    """
    hits = np.sort(scores[positive])
    if not len(hits):
        return None
    negatives = scores[~positive]
    every = -(-len(negatives) // maximum_negatives) or 1
    # Count each negative under the number of positives whose threshold it reaches, then sum from the top.
    reached = np.searchsorted(hits, negatives[::every], side="right")
    at_least = every * np.bincount(reached, minlength=len(hits) + 1)[::-1].cumsum()[::-1]
    first = np.searchsorted(hits, hits, side="left")
    true_positives = len(hits) - first
    return float(np.mean(true_positives / (true_positives + at_least[first + 1])))
