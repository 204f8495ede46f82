"""Surface Dice and mean surface distance, over surface elements that are weighted by their area in mm².

The definition is that of DeepMind's `surface-distance` (Nikolov et al. 2018): wherever the 2×2×2 voxels around a voxel
corner are not all alike, a surface element sits on that corner. Its area is that of the triangles which marching cubes
(Lorensen and Cline 1987) lays between those eight voxels. Distances run from corner to corner. What lies beyond the
image is outside.

Counting surface voxels instead would weigh a voxel face within a slice like one across it. With voxels of
0.7 × 0.7 × 5 mm the latter has seven times the area of the former, so that counting can reverse which of two errors is
the larger one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Mask
from pipeline.metrics.surface import Distances, cropped, distances_both_ways

Areas = NDArray[np.float64]

_ROUNDING = 1e-6
"""Spacing is stored as float32: ten voxels of 0.1 mm are 1.0000000149 mm, and within a tolerance of 1 mm."""

_ALL_INSIDE = 255
"""Code of a corner whose eight voxels all belong to the mask."""


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
        """Area of both surfaces together."""
        return float(self.prediction_mm2.sum() + self.reference_mm2.sum())

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: mean over the area of both surfaces together."""
        total = self.to_reference @ self.prediction_mm2 + self.to_prediction @ self.reference_mm2
        return float(total) / self.area_mm2

    def nsd(self, tolerance_mm: float) -> float:
        """Return the share of the area of both surfaces within the tolerance: surface Dice (Nikolov et al. 2018)."""
        limit = tolerance_mm * (1 + _ROUNDING)
        within = self.prediction_mm2[self.to_reference <= limit].sum()
        within += self.reference_mm2[self.to_prediction <= limit].sum()
        return float(within) / self.area_mm2


def surface_elements(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceElements:
    """Return the surface elements of two masks (X, Y, Z) of one grid, neither of them empty.

    Raises
    ------
    ValueError
        For different shapes, an empty mask, or a spacing that is not three positive numbers.
    """
    first, second, spacing = cropped(reference, prediction, spacing_mm)
    x, y, z = spacing.tolist()
    areas_mm2 = element_areas_mm2((x, y, z))
    codes = [corner_codes(mask) for mask in (first, second)]
    surfaces = [(code != 0) & (code != _ALL_INSIDE) for code in codes]
    to_reference, to_prediction = distances_both_ways(surfaces[0], surfaces[1], spacing)
    reference_mm2, prediction_mm2 = (areas_mm2[code[at]] for code, at in zip(codes, surfaces, strict=True))
    return SurfaceElements(to_reference, to_prediction, prediction_mm2, reference_mm2)


def corner_codes(mask: Mask) -> NDArray[np.uint8]:
    """Return which of the eight voxels around each voxel corner belong to a mask (X, Y, Z).

    Returns
    -------
    array
        (X + 1, Y + 1, Z + 1), eight bits each: that of the voxel before the corner along all axes is the highest, then
        the last axis varies fastest.
    """
    code = np.pad(mask, 1).view(np.uint8)
    code = code[..., :-1] << np.uint8(1) | code[..., 1:]
    code = code[:, :-1] << np.uint8(2) | code[:, 1:]
    return code[:-1] << np.uint8(4) | code[1:]


def element_areas_mm2(spacing_mm: tuple[float, float, float]) -> Areas:
    """Return the area (256,) of a surface element for each code of `corner_codes`, 0 where there is no surface."""
    x, y, z = spacing_mm
    normals, codes = _triangles()
    lengths = np.linalg.norm(normals * np.array([y * z, x * z, x * y]), axis=1)
    return np.bincount(codes, weights=lengths, minlength=_ALL_INSIDE + 1).astype(np.float64, copy=False)


@cache
def _triangles() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the triangles of all codes for voxels of edge 1: normals (N, 3) as long as their area, and codes (N,).

    A surface and its complement have the same triangles; they are those of whichever has fewer voxels at the corner.
    """
    # Imported here since the classes of scikit-image take longer to import than most cases take to be measured.
    from skimage.measure import marching_cubes

    normals, codes = [], []
    for code in range(1, _ALL_INSIDE):
        inside = np.array([code >> (7 - bit) & 1 for bit in range(8)], np.float64).reshape(2, 2, 2)
        volume = inside if inside.sum() <= 4 else 1 - inside
        vertices, faces, _, _ = marching_cubes(volume, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
        corners = vertices[faces].astype(np.float64)
        normals.append(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2)
        codes.append(np.full(len(faces), code))
    return np.concatenate(normals), np.concatenate(codes)
