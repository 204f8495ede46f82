"""Distances between the surfaces of two masks, all from one computation inside their bounding box.

A surface is the set of mask voxels with a face neighbour outside of the mask (or of the image), as in MONAI; DeepMind's
surface-distance weighs surface elements by their area instead. Distances run from voxel centre to voxel centre, in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pipeline.metrics.boxes import Mask, bounding_box

Distances = NDArray[np.float64]

_POINTS_FOR_TREE = 1 / 15
"""Below this share of surface voxels in the box a search tree is faster than a distance map; both give the same."""

_COST_OF_BUILDING = 1 / 6
"""Putting a point into the tree, against looking for its nearest."""

_ROUNDING = 1e-6
"""Spacing is stored as float32: ten voxels of 0.1 mm are 1.0000000149 mm, and within a tolerance of 1 mm."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distance in mm from each surface voxel of one mask to the surface of the other, both ways."""

    to_reference: Distances
    to_prediction: Distances

    @property
    def hausdorff_mm(self) -> float:
        """Largest distance either way."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hausdorff95_mm(self) -> float:
        """Larger of the two directed 95th percentiles (as MONAI; linear interpolation)."""
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: mean over the voxels of both surfaces (as MONAI's symmetric mean)."""
        total = self.to_reference.sum() + self.to_prediction.sum()
        return float(total / (self.to_reference.size + self.to_prediction.size))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces within the tolerance: normalised surface Dice (Nikolov et al. 2018)."""
        limit = tolerance_mm * (1 + _ROUNDING)
        within = (self.to_reference <= limit).sum() + (self.to_prediction <= limit).sum()
        return float(within / (self.to_reference.size + self.to_prediction.size))


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask (X, Y, Z) that touch its outside, or that of the image, by a face."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for start, stop in ((0, -2), (2, None)):
            neighbour = [slice(1, -1)] * mask.ndim
            neighbour[axis] = slice(start, stop)
            inner &= padded[tuple(neighbour)]
    return mask & ~inner


def surface_distances(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Return distances between the surfaces of two masks (X, Y, Z) of one grid, neither of them empty.

    Raises
    ------
    ValueError
        For different shapes, an empty mask, or a spacing that is not positive.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if reference.shape != prediction.shape:
        raise ValueError(f"the masks differ in shape: {reference.shape} and {prediction.shape}")
    if not reference.any() or not prediction.any():
        raise ValueError("a surface needs a mask that is not empty")
    if spacing.shape != (reference.ndim,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"spacing_mm needs {reference.ndim} positive numbers, got {tuple(spacing_mm)}")
    box = bounding_box(reference | prediction)
    first, second = surface(reference[box]), surface(prediction[box])
    return SurfaceDistances(_distances(second, first, spacing), _distances(first, second, spacing))


def _distances(source: Mask, target: Mask, spacing: NDArray[np.float64]) -> Distances:
    """Return the distance from each voxel of `source` to the nearest of `target`; voxels of both are 0 away."""
    points = np.argwhere(source)
    apart = ~target[source]
    looked_for = points[apart]
    found = np.zeros(len(points))
    if not len(looked_for):
        return found
    if len(looked_for) + _COST_OF_BUILDING * np.count_nonzero(target) < _POINTS_FOR_TREE * source.size:
        tree = KDTree(np.argwhere(target) * spacing, leafsize=32, balanced_tree=False)
        found[apart] = tree.query(looked_for * spacing)[0]
    else:
        nearest = distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
        offsets = (looked_for - nearest[:, *looked_for.T].T) * spacing
        found[apart] = np.sqrt((offsets**2).sum(axis=1))
    return found
