"""Surface Dice and mean surface distance, over surface elements that are weighted by their area in mm².

The definition is that of DeepMind's `surface-distance` (Nikolov et al. 2018). A surface element lies on each voxel
corner whose 2×2×2 voxels are not all inside or all outside. Its area is that of the triangles which marching cubes
(Lorensen and Cline 1987) lays between these eight voxels. Distances are in mm, from corner to corner. Everything beyond
the image is outside.

Counting surface voxels instead would give a voxel face within a slice the same weight as one across slices. With voxels
of 0.7 × 0.7 × 5 mm the latter has seven times the area of the former, so that counting can reverse the order of two
errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Mask
from pipeline.metrics.surface import Distances, crop_to_masks, distances_both_ways

Areas = NDArray[np.float64]

_ROUNDING = 1e-6
"""Relative slack of a tolerance. NIfTI stores the spacing as float32, so that ten voxels of 0.1 mm are 1.0000000149 mm;
they must be within a tolerance of 1 mm."""

_ALL_INSIDE = 255
"""Code of a corner whose eight voxels are all in the mask."""


@dataclass(frozen=True, slots=True)
class SurfaceElements:
    """Surface elements of two masks.

    Attributes
    ----------
    to_reference, to_prediction
        Distance in mm of each element of one surface to the nearest of the other: those of the prediction to the
        reference, and those of the reference to the prediction.
    prediction_mm2, reference_mm2
        Area of each element in mm², in the order of `to_reference` and of `to_prediction`.
    """

    to_reference: Distances
    to_prediction: Distances
    prediction_mm2: Areas
    reference_mm2: Areas

    @property
    def area_mm2(self) -> float:
        """Area of both surfaces together, in mm²."""
        return float(self.prediction_mm2.sum() + self.reference_mm2.sum())

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance in mm: the mean over the area of both surfaces together."""
        total = self.to_reference @ self.prediction_mm2 + self.to_prediction @ self.reference_mm2
        return float(total) / self.area_mm2

    def nsd(self, tolerance_mm: float) -> float:
        """Return surface Dice in 0..1: the share of both surfaces' area within the tolerance (Nikolov et al. 2018)."""
        limit = tolerance_mm * (1 + _ROUNDING)
        within = self.prediction_mm2[self.to_reference <= limit].sum()
        within += self.reference_mm2[self.to_prediction <= limit].sum()
        return float(within) / self.area_mm2


def surface_elements(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceElements:
    """Return the surface elements of two masks.

    Parameters
    ----------
    reference, prediction
        Masks (X, Y, Z) of one grid, neither of them empty.
    spacing_mm
        Edges of a voxel along X, Y and Z.

    Raises
    ------
    ValueError
        Shapes differ, a mask is empty, or the spacing is not three positive numbers.

    Examples
    --------
    A cube, and the same one shifted by one voxel of 1 mm:

    >>> reference = np.zeros((12, 12, 12), bool)
    >>> reference[2:8, 2:8, 2:8] = True
    >>> elements = surface_elements(reference, np.roll(reference, 1, axis=0), (1.0, 1.0, 1.0))
    >>> elements.nsd(tolerance_mm=1.0), round(elements.nsd(tolerance_mm=0.5), 2), round(elements.assd_mm, 2)
    (1.0, 0.67, 0.33)
    """
    first, second, spacing = crop_to_masks(reference, prediction, spacing_mm)
    x, y, z = spacing.tolist()
    areas_mm2 = element_areas_mm2((x, y, z))
    codes = [corner_codes(mask) for mask in (first, second)]
    surfaces = [(code != 0) & (code != _ALL_INSIDE) for code in codes]
    to_reference, to_prediction = distances_both_ways(surfaces[0], surfaces[1], spacing)
    reference_mm2, prediction_mm2 = (areas_mm2[code[at]] for code, at in zip(codes, surfaces, strict=True))
    return SurfaceElements(to_reference, to_prediction, prediction_mm2, reference_mm2)


def corner_codes(mask: Mask) -> NDArray[np.uint8]:
    """Return for each voxel corner which of the eight voxels around it belong to a mask (X, Y, Z).

    Returns
    -------
    array
        (X + 1, Y + 1, Z + 1), eight bits each. The highest bit is that of the voxel before the corner along all axes;
        the last axis varies fastest.
    """
    # Bits are collected axis by axis: two voxels per edge, then four per face, then eight per cube.
    code = np.pad(mask, 1).view(np.uint8)
    code = code[..., :-1] << np.uint8(1) | code[..., 1:]
    code = code[:, :-1] << np.uint8(2) | code[:, 1:]
    return code[:-1] << np.uint8(4) | code[1:]


def element_areas_mm2(spacing_mm: tuple[float, float, float]) -> Areas:
    """Return the area in mm² of a surface element for each code of `corner_codes`: (256,), 0 for no surface."""
    x, y, z = spacing_mm
    normals, codes = _triangles()
    lengths = np.linalg.norm(normals * np.array([y * z, x * z, x * y]), axis=1)
    return np.bincount(codes, weights=lengths, minlength=_ALL_INSIDE + 1).astype(np.float64, copy=False)


@cache
def _triangles() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the triangles of all codes for voxels of edge 1.

    Returns
    -------
    normals
        (N, 3); the length of a normal is the area of its triangle.
    codes
        (N,), the code of the corner that each triangle belongs to.
    """
    # Importing scikit-image takes longer than most cases take to be measured.
    from skimage.measure import marching_cubes

    normals, codes = [], []
    for code in range(1, _ALL_INSIDE):
        inside = np.array([code >> (7 - bit) & 1 for bit in range(8)], np.float64).reshape(2, 2, 2)
        # Marching cubes resolves ambiguous corners differently for a mask and its complement. As in DeepMind's table,
        # both have the triangles of whichever has fewer voxels at the corner.
        volume = inside if inside.sum() <= 4 else 1 - inside
        vertices, faces, _, _ = marching_cubes(volume, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
        corners = vertices[faces].astype(np.float64)
        normals.append(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2)
        codes.append(np.full(len(faces), code))
    return np.concatenate(normals), np.concatenate(codes)
