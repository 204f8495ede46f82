"""Distances between the surface voxels of two masks, for the Hausdorff distances.

A surface is the set of mask voxels with a face neighbor outside of the mask (or of the image), as in MONAI. Distances
run from voxel center to voxel center, in mm. Every surface voxel counts once; metrics that are means over a surface
weight it by area instead (`pipeline.metrics.surface_elements`).
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
"""Below this share of surface points in the box a search tree is faster than a distance map; both give the same."""

_COST_OF_BUILDING = 1 / 6
"""Cost of adding a point to the tree, relative to a search for its nearest neighbor."""


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
        """Larger of the two directed 95th percentiles over surface voxels (as MONAI; linear interpolation)."""
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask (X, Y, Z) that touch its outside, or that of the image, by a face."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for start, stop in ((0, -2), (2, None)):
            neighbor = [slice(1, -1)] * mask.ndim
            neighbor[axis] = slice(start, stop)
            inner &= padded[tuple(neighbor)]
    return mask & ~inner


def surface_distances(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Return distances between the surface voxels of two masks (X, Y, Z) of one grid, neither of them empty.

    Raises
    ------
    ValueError
        For different shapes, an empty mask, or a spacing that is not positive.
    """
    first, second, spacing = cropped(reference, prediction, spacing_mm)
    return SurfaceDistances(*distances_both_ways(surface(first), surface(second), spacing))


def cropped(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> tuple[Mask, Mask, NDArray[np.float64]]:
    """Return both masks (X, Y, Z) inside the box around them, and the spacing as an array.

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
    return reference[box], prediction[box], spacing


def distances_both_ways(first: Mask, second: Mask, spacing: NDArray[np.float64]) -> tuple[Distances, Distances]:
    """Return the distances in mm from the points of `second` to the nearest of `first`, and the other way round.

    Points are the nonzero elements of two arrays (X, Y, Z) of one grid with edges `spacing`, in the order of the array.
    """
    return _distances(second, first, spacing), _distances(first, second, spacing)


def _distances(source: Mask, target: Mask, spacing: NDArray[np.float64]) -> Distances:
    """Return the distance from each point of `source` to the nearest of `target`; points of both are 0 away."""
    apart = ~target[source]
    found = np.zeros(len(apart))
    # Points of both surfaces, usually most of them, have distance 0 and need no search.
    searched = np.argwhere(source & ~target)
    if not len(searched):
        return found
    if len(searched) + _COST_OF_BUILDING * np.count_nonzero(target) < _POINTS_FOR_TREE * source.size:
        tree = KDTree(np.argwhere(target) * spacing, leafsize=32, balanced_tree=False)
        found[apart] = tree.query(searched * spacing)[0]
    else:
        nearest = distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
        offsets = (searched - nearest[:, *searched.T].T) * spacing
        found[apart] = np.sqrt((offsets**2).sum(axis=1))
    return found
