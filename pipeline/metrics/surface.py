"""Distances between the surface voxels of two masks, for the Hausdorff distances.

A surface is the set of mask voxels with a face neighbor outside of the mask or of the image, as in MONAI. Distances are
in mm, from voxel center to voxel center. Every surface voxel counts once; metrics that are means over a surface weight
it by area instead (`pipeline.metrics.surface_elements`). Empty masks have no surface and are handled by
`pipeline.metrics.empty_masks`.
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
"""Share of surface points in the box below which a search tree is faster than a distance map. Results are the same."""

_COST_OF_BUILDING = 1 / 6
"""Cost of adding a point to the tree, relative to one search for a nearest neighbor."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances in mm between the surface voxels of two masks.

    Attributes
    ----------
    to_reference
        Distance of each surface voxel of the prediction to the surface of the reference.
    to_prediction
        Distance of each surface voxel of the reference to the surface of the prediction.
    """

    to_reference: Distances
    to_prediction: Distances

    @property
    def hausdorff_mm(self) -> float:
        """Hausdorff distance: the largest of all distances, in mm."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hausdorff95_mm(self) -> float:
        """95 % Hausdorff distance in mm: the larger of the two directed percentiles, as in MONAI.

        Percentiles are over surface voxels, with linear interpolation.
        """
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))


def surface_voxels(mask: Mask) -> Mask:
    """Return the voxels of a mask with a face neighbor outside of the mask or of the image.

    Examples
    --------
    >>> int(surface_voxels(np.ones((3, 3, 3), bool)).sum())
    26
    """
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for start, stop in ((0, -2), (2, None)):
            neighbor = [slice(1, -1)] * mask.ndim
            neighbor[axis] = slice(start, stop)
            inner &= padded[tuple(neighbor)]
    return mask & ~inner


def surface_distances(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Return the distances between the surface voxels of two masks.

    Parameters
    ----------
    reference, prediction
        Masks (X, Y, Z) of one grid, neither of them empty.
    spacing_mm
        Edges of a voxel along X, Y and Z.

    Raises
    ------
    ValueError
        Shapes differ, a mask is empty, or the spacing is not positive.

    Examples
    --------
    Two cubes of 4 × 4 × 4 voxels, one shifted by one voxel of 2 mm:

    >>> reference = np.zeros((10, 10, 10), bool)
    >>> reference[2:6, 2:6, 2:6] = True
    >>> surface_distances(reference, np.roll(reference, 1, axis=0), (2.0, 1.0, 1.0)).hausdorff_mm
    2.0
    """
    first, second, spacing = crop_to_masks(reference, prediction, spacing_mm)
    return SurfaceDistances(*distances_both_ways(surface_voxels(first), surface_voxels(second), spacing))


def crop_to_masks(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float]
) -> tuple[Mask, Mask, NDArray[np.float64]]:
    """Return two masks (X, Y, Z) cropped to the box around both, and the spacing in mm as an array.

    Raises
    ------
    ValueError
        Shapes differ, a mask is empty, or the spacing is not positive.
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
    """Return the distances in mm from each point of `second` to the nearest of `first`, and vice versa.

    Points are the nonzero elements of two arrays (X, Y, Z) with voxel edges `spacing` in mm. Distances are in the order
    of the points in their array.
    """
    return _distances(second, first, spacing), _distances(first, second, spacing)


def _distances(source: Mask, target: Mask, spacing: NDArray[np.float64]) -> Distances:
    """Return the distance in mm from each point of `source` to the nearest point of `target`."""
    apart = ~target[source]
    distances = np.zeros(len(apart))
    # Points on both surfaces, usually most of them, have distance 0 and need no search.
    searched = np.argwhere(source & ~target)
    if not len(searched):
        return distances
    if len(searched) + _COST_OF_BUILDING * np.count_nonzero(target) < _POINTS_FOR_TREE * source.size:
        tree = KDTree(np.argwhere(target) * spacing, leafsize=32, balanced_tree=False)
        distances[apart] = tree.query(searched * spacing)[0]
    else:
        nearest = distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
        offsets = (searched - nearest[:, *searched.T].T) * spacing
        distances[apart] = np.sqrt((offsets**2).sum(axis=1))
    return distances
