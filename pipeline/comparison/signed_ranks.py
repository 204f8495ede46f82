"""Compute the signed-rank test of the differences of a pair over patients."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

MAXIMUM_PATIENTS = 13
"""Up to this number of patients, SciPy enumerates all signs in Python if there are ties or zeros, which is slow."""


def signed_rank_p(differences: Floats) -> Floats:
    """Return two-sided p values of Wilcoxon's signed-rank test with Pratt's treatment of zeros.

    Pratt's method includes zeros in the ranking and then drops their ranks, so that many ties of losses make a result
    less significant.

    Parameters
    ----------
    differences
        (pairs, patients); each row must have a value other than 0.

    Returns
    -------
    ndarray
        (pairs,), equal to the values of ``scipy.stats.wilcoxon``.

    Examples
    --------
    >>> signed_rank_p(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])).tolist()
    [0.0625]
    """
    if differences.shape[1] > MAXIMUM_PATIENTS:
        return np.asarray(stats.wilcoxon(differences, zero_method="pratt", axis=1).pvalue)
    return np.array([_exact_p(row) for row in differences])


def _exact_p(differences: Floats) -> float:
    """Return the exact p value over all signs of the differences that are not 0.

    Ranks of ties may be halves, so that twice the rank sum is an integer. Its distribution is built rank by rank: with
    either sign, a rank adds its double or 0 to the sum of positive ranks.
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
