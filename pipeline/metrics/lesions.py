"""Detection of separate structures, where there are many: lesion-wise F1 and false positives.

Components are joined over faces, edges and corners (26 neighbours). A lesion of the reference is found when at least
one voxel of it is predicted; a predicted component is right when at least one voxel of it lies in the reference.
"""

from dataclasses import dataclass

import cc3d
import numpy as np

from pipeline.metrics.boxes import Mask


@dataclass(frozen=True, slots=True)
class Detection:
    """How many lesions of the reference were found and missed, and how many predicted ones are invented."""

    found: int
    missed: int
    invented: int

    @property
    def f1(self) -> float:
        """``2 found / (2 found + missed + invented)``; 0 where all were missed or all were invented."""
        return 2 * self.found / (2 * self.found + self.missed + self.invented)


def detect(reference: Mask, prediction: Mask) -> Detection:
    """Match the components of two masks (X, Y, Z), at least one of which is not empty."""
    true_labels, true_count = _components(reference)
    own_labels, own_count = _components(prediction)
    both = reference & prediction
    found = np.unique(true_labels[both]).size
    right = np.unique(own_labels[both]).size
    return Detection(found, true_count - found, own_count - right)


def _components(mask: Mask) -> tuple[np.ndarray, int]:
    """Label components; cc3d makes room for too few of them in a line of voxels, hence the border of background."""
    labels, count = cc3d.connected_components(np.pad(mask, 1), connectivity=26, return_N=True)
    return labels[(slice(1, -1),) * mask.ndim], int(count)
