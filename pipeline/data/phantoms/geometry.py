"""Grids of phantoms, with the spacings, orientations and oblique axes that scanners produce."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.system.random_streams import stream

VOXEL_MM = 2.0
"""Edge of an isotropic voxel. Anisotropic voxels have the same volume."""

THICK_SLICES = (0.75, 0.75, 1 / 0.75**2)
"""Edges of an anisotropic voxel along right, anterior and superior, relative to the isotropic one."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """A voxel grid in world coordinates.

    Attributes
    ----------
    name
        Description, e.g. ``"LPS, thick slices"``.
    shape
        Voxels along i, j, k.
    affine
        (4, 4), from voxel indices to mm in R, A, S; the center of the grid is near the origin.
    """

    name: str
    shape: Shape
    affine: NDArray[np.float64]

    def points_mm(self) -> NDArray[np.float64]:
        """Return the centers of all voxels in mm: (I, J, K, 3)."""
        return self._to_mm(np.moveaxis(np.indices(self.shape), 0, -1))

    def parts_mm(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the centers in mm of the parts into which voxels are divided, for partial volume effects.

        A voxel is divided into two parts along each axis, and into three along its long axes.

        Parameters
        ----------
        voxels
            Indices (N, 3).

        Returns
        -------
        array
            (N, parts per voxel, 3).
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
    """Return the grid of a case. Five kinds take turns: other orientations, thick slices, oblique axes.

    Parameters
    ----------
    index
        Number of the case, from 0.
    shape
        Voxels along right, anterior and superior at isotropic spacing. All kinds have the same field of view.
    seed
        Seed of the dataset.

    Examples
    --------
    >>> draw_grid(1, (48, 48, 40), seed=0).name
    'LPS, thick slices'
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
    """Return a grid of which axis n runs along world axis ``order[n]``, reversed if ``signs[order[n]]`` is negative."""
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
    """Return a rotation (3, 3) by 8 to 15 degrees about a random axis, by Rodrigues' formula."""
    axis = draws.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(draws.uniform(8, 15))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
