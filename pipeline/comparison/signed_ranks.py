"""The signed-rank test of the differences of a pair over patients."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

MOST_PATIENTS = 13
"""Up to this many patients SciPy draws all signs if there are ties or zeros, by calling Python for each of them."""


def signed_rank_p(differences: Floats) -> Floats:
    """Return two-sided p values of Wilcoxon's signed-rank test with Pratt's treatment of zeros.

    Parameters
    ----------
    differences
        (pairs, patients), each row with a value other than 0.

    Returns
    -------
    ndarray
        (pairs,). For few patients they are those of ``scipy.stats.wilcoxon``, hundreds of times faster.

    Examples
    --------
    >>> signed_rank_p(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])).tolist()
    [0.0625]
    """
    if differences.shape[1] > MOST_PATIENTS:
        return np.asarray(stats.wilcoxon(differences, zero_method="pratt", axis=1).pvalue)
    return np.array([_exact_p(row) for row in differences])


def _exact_p(differences: Floats) -> float:
    """Return the exact p value over all signs of the differences that are not 0.

    Ranks of ties are halves, so that twice the rank sum is a whole number. Its distribution is built up rank by rank.
    """
    doubled = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)
    moved = differences != 0
    counts = np.zeros(doubled[moved].sum() + 1)
    counts[0] = 1.0
    for rank in doubled[moved]:
        counts[rank:] += counts[:-rank].copy()
    observed = doubled[differences > 0].sum()
    tail = min(counts[: observed + 1].sum(), counts[observed:].sum()) / counts.sum()
    return float(min(1.0, 2 * tail))
