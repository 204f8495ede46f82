"""Detection of separate structures: lesion F1, panoptic quality and lesion-wise Dice.

Lesions are components joined over faces, edges and corners (26 neighbors). Lesions of the reference and of the
prediction are matched one to one, so that a prediction which covers many lesions finds one of them at most. A pair may
be matched where its IoU is 0.1 or more, which is how nnDetection (Baumgartner et al. 2021) counts hits in 3D; of all
such matchings the one with the largest total IoU is taken.
"""

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.metrics.boxes import Mask

SMALLEST_IOU = 0.1
"""IoU of two lesions that may be matched."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Lesions of a reference and a prediction, at least one of which has some.

    Attributes
    ----------
    ious
        IoU of each pair of matched lesions.
    missed
        Lesions of the reference without a match.
    invented
        Lesions of the prediction without a match.
    """

    ious: tuple[float, ...]
    missed: int
    invented: int

    @property
    def found(self) -> int:
        """Number of matched pairs."""
        return len(self.ious)

    @property
    def f1(self) -> float:
        """``2 found / (2 found + missed + invented)``."""
        return 2 * self.found / (2 * self.found + self.missed + self.invented)

    @property
    def panoptic_quality(self) -> float:
        """Sum of the IoU of matched pairs over ``found + (missed + invented) / 2`` (Kirillov et al. 2019)."""
        return sum(self.ious) / (self.found + (self.missed + self.invented) / 2)

    @property
    def lesion_dice(self) -> float:
        """Mean Dice over matched pairs, missed and invented lesions; the latter two have 0 (as in BraTS 2023)."""
        return sum(2 * iou / (1 + iou) for iou in self.ious) / (self.found + self.missed + self.invented)


def detect(reference: Mask, prediction: Mask) -> Detection:
    """Match the lesions of two masks (X, Y, Z), at least one of which is not empty."""
    true_labels, true_count = _components(reference)
    own_labels, own_count = _components(prediction)
    both = reference & prediction
    pairs, shared = np.unique(
        true_labels[both].astype(np.int64) * (own_count + 1) + own_labels[both], return_counts=True
    )
    rows, columns = np.divmod(pairs, own_count + 1)
    true_sizes = np.bincount(true_labels.ravel(), minlength=true_count + 1)
    own_sizes = np.bincount(own_labels.ravel(), minlength=own_count + 1)
    iou = shared / (true_sizes[rows] + own_sizes[columns] - shared)
    enough = iou >= SMALLEST_IOU
    ious = _best_matching(rows[enough], columns[enough], iou[enough])
    return Detection(ious, true_count - len(ious), own_count - len(ious))


def _best_matching(rows: NDArray[np.int64], columns: NDArray[np.int64], iou: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the IoU of the pairs in the one-to-one matching with the largest total IoU.

    Groups of pairs without a common lesion are matched one by one: noise has thousands of lesions, and one matrix of
    all of them would take gigabytes.
    """
    if not len(iou):
        return ()
    first_column = int(rows.max()) + 1
    edges = coo_array((iou, (rows, first_column + columns)), shape=(first_column + int(columns.max()) + 1,) * 2)
    group = connected_components(edges, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return tuple(value for part in parts for value in _assigned(rows[part], columns[part], iou[part]))


def _assigned(rows: NDArray[np.int64], columns: NDArray[np.int64], iou: NDArray[np.float64]) -> list[float]:
    """Return the IoU of the pairs of the best matching within one group of pairs."""
    if len(iou) == 1:
        return [float(iou[0])]
    row_values, row = np.unique(rows, return_inverse=True)
    column_values, column = np.unique(columns, return_inverse=True)
    gains = np.zeros((len(row_values), len(column_values)))
    gains[row, column] = iou
    chosen = gains[linear_sum_assignment(gains, maximize=True)]
    return [float(value) for value in chosen[chosen > 0]]


def _components(mask: Mask) -> tuple[NDArray[np.integer[Any]], int]:
    """Label the components of a mask, from 1.

    The border of background is for cc3d, which allocates too few labels for the components of a line of voxels.
    """
    labels, count = cc3d.connected_components(np.pad(mask, 1), connectivity=26, return_N=True)
    return labels[(slice(1, -1),) * mask.ndim], int(count)
