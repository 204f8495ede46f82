"""The grids of phantoms: spacing, orientation and obliqueness that real scanners deliver."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.system.random_streams import stream

VOXEL_MM = 2.0
"""Edge of an isotropic voxel; anisotropic voxels have the same volume."""

THICK_SLICES = (0.75, 0.75, 1 / 0.75**2)
"""Edges of an anisotropic voxel over those of the isotropic one, along right, anterior and superior."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """A voxel grid in the world.

    Attributes
    ----------
    name
        What is special about it, e.g. `"LPS, thick slices"`.
    shape
        Voxels along i, j, k.
    affine
        (4, 4), voxel index to RAS+ millimeters; the middle of the grid is near the origin.
    """

    name: str
    shape: Shape
    affine: NDArray[np.float64]

    def points_mm(self) -> NDArray[np.float64]:
        """Return the middles of all voxels: (I, J, K, 3), in millimeters."""
        return self._to_mm(np.moveaxis(np.indices(self.shape), 0, -1))

    def parts_mm(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the middles of the parts that voxels (N, 3) are cut into: (N, parts of a voxel, 3), in millimeters.

        A voxel is cut in two along each axis, in three along its long ones.
        """
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        cuts = [3 if edge > 1.5 * spacing.min() else 2 for edge in spacing]
        offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in cuts]
        inside = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
        return self._to_mm(voxels[:, None, :] + inside)

    def _to_mm(self, index: NDArray[Any]) -> NDArray[np.float64]:
        points: NDArray[np.float64] = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points


def draw_grid(index: int, shape: Shape, seed: int) -> Grid:
    """Return the grid of the case number `index`; five kinds take turns.

    Parameters
    ----------
    shape
        Voxels along right, anterior and superior at isotropic spacing; the field of view is the same in all kinds.
    """
    draws = stream(seed, "phantom-grid", index)
    kind = index % 5
    if kind == 0:
        return _grid("RAS", shape, (1, 1, 1), (0, 1, 2), (1, 1, 1), np.eye(3), draws)
    if kind == 1:
        return _grid("LPS, thick slices", shape, THICK_SLICES, (0, 1, 2), (-1, -1, 1), np.eye(3), draws)
    if kind == 2:
        return _grid("PSR, sagittal", shape, (1, 1, 1), (1, 2, 0), (1, -1, 1), np.eye(3), draws)
    if kind == 3:
        return _grid("RAS, oblique", shape, (1, 1, 1), (0, 1, 2), (1, 1, 1), _rotation(draws), draws)
    return _grid("LIA, oblique, thick slices", shape, THICK_SLICES, (0, 2, 1), (-1, 1, -1), _rotation(draws), draws)


def _grid(
    name: str,
    shape: Shape,
    stretch: tuple[float, float, float],
    order: Shape,
    signs: Shape,
    rotation: NDArray[np.float64],
    draws: np.random.Generator,
) -> Grid:
    """Lay a grid whose axis number n runs along world axis `order[n]`, reversed where `signs` of that is negative."""
    spacing = VOXEL_MM * np.asarray(stretch)
    extent = np.maximum(np.rint(np.asarray(shape) / np.asarray(stretch)), 1).astype(int)
    direction = np.zeros((3, 3))
    for array_axis, world_axis in enumerate(order):
        direction[world_axis, array_axis] = signs[world_axis] * spacing[world_axis]
    i, j, k = (int(extent[axis]) for axis in order)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ direction
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2) + draws.uniform(-1, 1, 3)
    return Grid(name, (i, j, k), affine)


def _rotation(draws: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation by 8 to 15 degrees about an axis drawn at random, by Rodrigues' formula."""
    axis = draws.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(draws.uniform(8, 15))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
