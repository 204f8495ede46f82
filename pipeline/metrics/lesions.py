"""Detection of separate structures, where there are many: lesion-wise F1."""

from dataclasses import dataclass

import cc3d
import numpy as np

from pipeline.metrics.surface import Mask


@dataclass(frozen=True, slots=True)
class Detection:
    """Connected components (26 neighbours) found, missed and invented; a match is an overlap of at least one voxel."""

    found: int
    missed: int
    invented: int

    @property
    def f1(self) -> float:
        """``2 found / (2 found + missed + invented)``; 0 where all were missed or all were invented."""
        return 2 * self.found / (2 * self.found + self.missed + self.invented)


def detect(reference: Mask, prediction: Mask) -> Detection:
    """Match the components of two masks (X, Y, Z), at least one of which is not empty."""
    true_labels, true_count = cc3d.connected_components(reference, connectivity=26, return_N=True)
    own_labels, own_count = cc3d.connected_components(prediction, connectivity=26, return_N=True)
    found = np.unique(true_labels[prediction & reference]).size
    right = np.unique(own_labels[prediction & reference]).size
    return Detection(int(found), int(true_count - found), int(own_count - right))
