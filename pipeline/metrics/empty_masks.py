"""Values of metrics where the reference, the prediction or both are empty.

================  =================  =============================  ========================
reference         prediction         state                          distances and surface Dice
================  =================  =============================  ========================
empty             empty              ``correct_absence``            undefined (None)
not empty         empty              ``missed``                     diagonal in mm, and 0
empty             not empty          ``false_positive``             diagonal in mm, and 0
not empty         not empty          ``ok``                         computed
================  =================  =============================  ========================

The usual alternatives, NaN or infinity, drop a failed case from the mean, so that a network improves its mean Hausdorff
distance by missing a structure. The diagonal of the image is an upper bound of all distances in it. Overlap needs no
rule of its own: its formulas (`pipeline.metrics.overlap`) give 0 where one mask is empty. No case is dropped. Each
value carries its state, and counts of states are shown beside every mean.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.records.metrics import metric_of
from pipeline.records.states import State


def state_of(reference_voxels: int, prediction_voxels: int) -> State:
    """Return the state of one class in one case from the numbers of voxels in reference and prediction.

    Examples
    --------
    >>> state_of(120, 0), state_of(0, 3)
    (<State.MISSED: 'missed'>, <State.FALSE_POSITIVE: 'false_positive'>)
    """
    if reference_voxels == 0:
        return State.CORRECT_ABSENCE if prediction_voxels == 0 else State.FALSE_POSITIVE
    return State.MISSED if prediction_voxels == 0 else State.OK


def surface_metric_of_failure(metric: str, shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the value of a surface metric for a missed structure or a false positive.

    Parameters
    ----------
    metric
        Name of a Hausdorff distance, a mean surface distance or surface Dice.
    shape
        Voxels of the image along each axis.
    spacing_mm
        Edges of a voxel along the same axes.

    Returns
    -------
    float
        For a distance the diagonal of the image in mm, for surface Dice 0.

    Examples
    --------
    >>> surface_metric_of_failure("hausdorff_mm", (3, 4, 12), (1.0, 1.0, 1.0))
    13.0
    >>> surface_metric_of_failure("nsd", (3, 4, 12), (1.0, 1.0, 1.0))
    0.0
    """
    return diagonal_mm(shape, spacing_mm) if metric_of(metric).is_distance else 0.0


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the length in mm of the diagonal of an image with `shape` voxels of edges `spacing_mm`.

    Examples
    --------
    >>> diagonal_mm((3, 4, 12), (2.0, 2.0, 2.0))
    26.0
    """
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))
