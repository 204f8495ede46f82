"""Weights of classes from the voxels they have in the training labels.

Raw inverse frequencies (1:500 and beyond) make weighted cross entropy collapse, which alone explains its bad name in
some public comparisons of losses (SegLossOdyssey). All policies are therefore capped.

Weights move the decision, too: a class with r times the weight of the others is predicted wherever its probability
exceeds 1/(1 + r), while the Dice of a mask is largest where it exceeds half of the Dice that can be reached
(Lipton et al. 2014, arXiv:1402.1892), so for good masks not far below 1/2. Square roots already over-segment: on the
hippocampus (27:1) they cut at 0.16. The default is the fourth root: 2.3 there, and 6 where lesions are one voxel in
1,500.
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
"""Cui et al. 2019 take 1 - 1/N for N samples in a class's neighbourhood; here N is ten million voxels."""


def class_weights(voxels: Sequence[int], policy: str = DEFAULT_POLICY, cap: float = DEFAULT_CAP) -> NDArray[np.float64]:
    """Return one weight per class, mean 1, the largest at most `cap` times the smallest.

    Parameters
    ----------
    voxels
        Voxels of each class, background first. A class without voxels gets the weight of the rarest one that has any.
    policy
        ``inverse`` 1/f; ``median_frequency`` median(f)/f (Eigen and Fergus 2015: the same up to scale, and so equal to
        ``inverse`` here unless it is capped); ``square_root`` 1/√f; ``fourth_root`` f^(-1/4); ``log`` 1/ln(1.02 + f)
        (Paszke et al. 2016); ``effective_number`` (1 - β)/(1 - β^n) (Cui et al. 2019); ``uniform``. f is the class's
        share of voxels.
    cap
        Largest ratio between two weights; larger ones are brought down to it.

    Raises
    ------
    ValueError
        For an unknown policy, a cap below 1, negative counts, or no voxels at all.
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
    """Return how many times more voxels the largest class has than the smallest one that has any."""
    present = [count for count in voxels if count > 0]
    return max(present) / min(present) if present else 1.0
