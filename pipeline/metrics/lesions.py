"""Detection of separate structures: lesion F1, panoptic quality and lesion-wise Dice.

Lesions are components joined over faces, edges and corners (26 neighbors). Lesions of the reference and of the
prediction are matched one to one, so that a prediction which covers many lesions detects one of them at most. A pair
may be matched if its IoU is 0.1 or more, the criterion of nnDetection (Baumgartner et al. 2021) for hits in 3D. Of all
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

MINIMUM_IOU = 0.1
"""Smallest IoU of two lesions that may be matched."""


@dataclass(frozen=True, slots=True)
class LesionMatching:
    """Matched and unmatched lesions of a reference and a prediction, at least one of which has some.

    Attributes
    ----------
    ious
        IoU of each matched pair.
    missed
        Number of lesions of the reference without a match.
    false_positives
        Number of lesions of the prediction without a match.

    Examples
    --------
    >>> matching = LesionMatching(ious=(0.5, 1.0), missed=1, false_positives=2)
    >>> round(matching.f1, 3), round(matching.panoptic_quality, 3), round(matching.lesion_dice, 3)
    (0.571, 0.429, 0.333)
    """

    ious: tuple[float, ...]
    missed: int
    false_positives: int

    @property
    def matched(self) -> int:
        """Number of matched pairs."""
        return len(self.ious)

    @property
    def f1(self) -> float:
        """``2 matched / (2 matched + missed + false positives)``."""
        return 2 * self.matched / (2 * self.matched + self.missed + self.false_positives)

    @property
    def panoptic_quality(self) -> float:
        """Total IoU of matched pairs over ``matched + (missed + false positives) / 2`` (Kirillov et al. 2019)."""
        return sum(self.ious) / (self.matched + (self.missed + self.false_positives) / 2)

    @property
    def lesion_dice(self) -> float:
        """Mean Dice over matched pairs, missed lesions and false positives; the latter two count 0 (BraTS 2023)."""
        # The Dice of a pair is 2 IoU / (1 + IoU).
        return sum(2 * iou / (1 + iou) for iou in self.ious) / (self.matched + self.missed + self.false_positives)


def match_lesions(reference: Mask, prediction: Mask) -> LesionMatching:
    """Match the lesions of two masks (X, Y, Z) of one grid, at least one of which is not empty.

    Examples
    --------
    >>> reference = np.zeros((1, 1, 20), bool)
    >>> reference[0, 0, 2:12] = True
    >>> fragments = reference.copy()
    >>> fragments[0, 0, [6, 9]] = False
    >>> match_lesions(reference, fragments)
    LesionMatching(ious=(0.4,), missed=0, false_positives=2)
    """
    reference_labels, reference_count = _components(reference)
    predicted_labels, predicted_count = _components(prediction)
    both = reference & prediction
    # Each overlapping pair of components gets one number, so that one pass counts the shared voxels of all pairs.
    pairs, shared = np.unique(
        reference_labels[both].astype(np.int64) * (predicted_count + 1) + predicted_labels[both], return_counts=True
    )
    rows, columns = np.divmod(pairs, predicted_count + 1)
    reference_sizes = np.bincount(reference_labels.ravel(), minlength=reference_count + 1)
    predicted_sizes = np.bincount(predicted_labels.ravel(), minlength=predicted_count + 1)
    iou = shared / (reference_sizes[rows] + predicted_sizes[columns] - shared)
    allowed = iou >= MINIMUM_IOU
    ious = _best_matching(rows[allowed], columns[allowed], iou[allowed])
    return LesionMatching(ious, reference_count - len(ious), predicted_count - len(ious))


def _best_matching(rows: NDArray[np.int64], columns: NDArray[np.int64], iou: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the IoU of the pairs in the one-to-one matching with the largest total IoU."""
    if not len(iou):
        return ()
    # Groups of pairs without a common lesion are matched one by one. Noise has thousands of lesions, and one matrix of
    # all of them would take gigabytes.
    first_column = int(rows.max()) + 1
    edges = coo_array((iou, (rows, first_column + columns)), shape=(first_column + int(columns.max()) + 1,) * 2)
    group = connected_components(edges, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return tuple(value for part in parts for value in _matching_of_group(rows[part], columns[part], iou[part]))


def _matching_of_group(rows: NDArray[np.int64], columns: NDArray[np.int64], iou: NDArray[np.float64]) -> list[float]:
    """Return the IoU of the pairs of the best matching within one group of pairs."""
    if len(iou) == 1:
        return [float(iou[0])]
    row_values, row = np.unique(rows, return_inverse=True)
    column_values, column = np.unique(columns, return_inverse=True)
    gains = np.zeros((len(row_values), len(column_values)))
    gains[row, column] = iou
    chosen = gains[linear_sum_assignment(gains, maximize=True)]
    # The assignment also pairs lesions that do not overlap enough, with a gain of 0.
    return [float(value) for value in chosen[chosen > 0]]


def _components(mask: Mask) -> tuple[NDArray[np.integer[Any]], int]:
    """Return the components of a mask, numbered from 1, and their number."""
    # cc3d allocates too few labels for the components of a line of voxels (every other one of them set); a border of
    # background avoids that.
    labels, count = cc3d.connected_components(np.pad(mask, 1), connectivity=26, return_N=True)
    return labels[(slice(1, -1),) * mask.ndim], int(count)
