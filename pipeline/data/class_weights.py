"""Class weights from the numbers of voxels in the training labels.

Raw inverse frequencies (1:500 and beyond) make training with weighted cross entropy collapse. This alone explains its
bad results in some public comparisons of losses (SegLossOdyssey). All policies are therefore capped.

Weights also move the decision. A class with r times the weight of the others is predicted wherever its probability
exceeds 1/(1 + r). The Dice of a mask, however, is largest for a threshold of half of the achievable Dice (Lipton et al.
2014, arXiv:1402.1892), which for good masks is not far below 1/2. Square roots already over-segment: on the hippocampus
(27:1) they correspond to a threshold of 0.16. The default is therefore the fourth root. Its ratio is 2.3 there, and 6
if one voxel in 1,500 belongs to lesions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

POLICIES = ("uniform", "fourth_root", "square_root", "log", "effective_number", "median_frequency", "inverse")
DEFAULT_POLICY = "fourth_root"
DEFAULT_CAP = 50.0
EXTREME_RATIO = 500.0
"""Imbalance from which raw inverse weights are known to make training collapse."""

EFFECTIVE_NUMBER_BETA = 0.9999999
"""The parameter of Cui et al. 2019 is 1 - 1/N for N samples in the neighborhood of a class; N is 10 million voxels."""


def class_weights(voxels: Sequence[int], policy: str = DEFAULT_POLICY, cap: float = DEFAULT_CAP) -> NDArray[np.float64]:
    """Return one weight per class, with mean 1 and the largest at most `cap` times the smallest.

    Parameters
    ----------
    voxels
        Voxels of each class, background first. A class without voxels gets the weight of the rarest class that has any.
    policy
        Function of f, the share of voxels that belong to a class:

        - ``uniform``: 1.
        - ``fourth_root``: f^(-1/4).
        - ``square_root``: 1/√f.
        - ``log``: 1/ln(1.02 + f) (Paszke et al. 2016).
        - ``effective_number``: (1 - β)/(1 - β^n) for n voxels (Cui et al. 2019).
        - ``median_frequency``: median(f)/f (Eigen and Fergus 2015). It is the same as ``inverse`` up to scale, and so
          equal to it here unless it is capped.
        - ``inverse``: 1/f.
    cap
        Largest ratio between two weights; larger weights are reduced to it.

    Raises
    ------
    ValueError
        The policy is unknown, the cap is below 1, a count is negative, or there are no voxels at all.

    Examples
    --------
    >>> [round(float(weight), 3) for weight in class_weights([1600, 100], "fourth_root")]
    [0.667, 1.333]
    """
    counts = np.asarray(voxels, dtype=np.float64)
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known are {', '.join(POLICIES)}")
    if cap < 1 or counts.size == 0 or counts.min() < 0 or counts.sum() == 0:
        raise ValueError("class weights need a cap of at least 1 and voxel counts that are not all zero")
    counts = np.where(counts > 0, counts, counts[counts > 0].min())
    share = counts / counts.sum()
    if policy == "uniform":
        raw = np.ones_like(share)
    elif policy == "fourth_root":
        raw = share**-0.25
    elif policy == "square_root":
        raw = 1 / np.sqrt(share)
    elif policy == "log":
        raw = 1 / np.log(1.02 + share)
    elif policy == "effective_number":
        raw = (1 - EFFECTIVE_NUMBER_BETA) / -np.expm1(counts * np.log(EFFECTIVE_NUMBER_BETA))
    elif policy == "median_frequency":
        raw = np.minimum(np.median(share) / share, cap)
    else:
        raw = 1 / share
    capped = np.minimum(raw, raw.min() * cap)
    weights: NDArray[np.float64] = capped / capped.mean()
    return weights


def imbalance_ratio(voxels: Sequence[int]) -> float:
    """Return the voxels of the largest class over those of the smallest class that has any; 1 without voxels.

    Examples
    --------
    >>> imbalance_ratio([900, 0, 30])
    30.0
    """
    present = [count for count in voxels if count > 0]
    return max(present) / min(present) if present else 1.0
