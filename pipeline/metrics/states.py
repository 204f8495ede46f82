"""The meaning of empty masks, the same for every metric.

Both empty: a correct absence; overlap and distances are undefined. Reference only: missed; prediction only: a false
positive; both have overlap 0, surface Dice 0 and, as distance, the diagonal of the image in mm, so that neither can
improve a mean. Nothing is dropped: each value carries its state, and counts of states are shown beside every mean.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

State = Literal["ok", "correct_absence", "missed", "false_positive"]


def state_of(reference_voxels: int, prediction_voxels: int) -> State:
    """Return the state of one class of one case."""
    if reference_voxels == 0:
        return "correct_absence" if prediction_voxels == 0 else "false_positive"
    return "missed" if prediction_voxels == 0 else "ok"


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the length of the image's diagonal in mm, which is the distance of a miss."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))
