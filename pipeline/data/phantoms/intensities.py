"""Image of a phantom: contrast, partial volume, bias field and noise of an MR scanner."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from pipeline.data.phantoms.anatomy import Head, Tissue
from pipeline.data.phantoms.geometry import Grid

BRIGHTNESS = {
    Tissue.AIR: 0.0,
    Tissue.SKIN: 0.63,
    Tissue.SKULL: 0.10,
    Tissue.FLUID: 0.17,
    Tissue.GRAY: 0.55,
    Tissue.WHITE: 0.41,
    Tissue.DEEP_GRAY: 0.70,
    Tissue.NUCLEUS: 0.88,
    Tissue.LESION: 1.0,
}
"""Brightness as in a FLAIR image: fluid is dark, white matter darker than gray matter, lesions are bright."""

NOISE = 0.035
"""Standard deviation of the noise in the real and in the imaginary part, relative to the brightness of a lesion."""

_VOXELS_PER_BLOCK = 50_000
"""Voxels that are divided into parts at a time, which limits the memory."""


def brightness_of_tissues(draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the brightness of each tissue in one person: (9,), indexed by `Tissue`."""
    typical = np.array([BRIGHTNESS[tissue] for tissue in Tissue])
    return typical * draws.normal(1, 0.03, len(typical))


def partial_volumes(
    head: Head, grid: Grid, half_mm: NDArray[np.float64], tissue: NDArray[np.uint8], levels: dict[int, float]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Yield blocks of voxels that may hold several tissues, with the tissues of their parts.

    These are the voxels with a neighbor of another tissue.

    Parameters
    ----------
    head, grid
        Person and grid.
    half_mm
        Half of the field of view in mm (3,).
    tissue
        Tissue of the centers of all voxels (I, J, K).
    levels
        Levels of the borders of the labeled structures.

    Yields
    ------
    voxels
        Indices (N, 3).
    parts
        Tissue of the parts of each voxel (N, parts per voxel).
    """
    mixed = np.argwhere(maximum_filter(tissue, 3) != minimum_filter(tissue, 3))
    for first in range(0, len(mixed), _VOXELS_PER_BLOCK):
        voxels = mixed[first : first + _VOXELS_PER_BLOCK]
        yield voxels, head.fields(grid.parts_mm(voxels) / half_mm).tissue(levels)


def sensitivity(points: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the bias field at `points` (..., 3) in -1..1: smooth, around 1, with variations of about a quarter."""
    linear, square = draws.normal(0, 0.13, 3), draws.normal(0, 0.08, 3)
    return np.exp(points @ linear + (points**2 - 0.3) @ square)


def receive(brightness: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.int16]:
    """Return the magnitude image (I, J, K): slightly blurred, with Rician noise and a random gain.

    Source: Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", MRM 34 (1995).
    """
    blurred = gaussian_filter(brightness, 0.35, mode="nearest")
    real = blurred + draws.normal(0, NOISE, blurred.shape)
    imaginary = draws.normal(0, NOISE, blurred.shape)
    image: NDArray[np.int16] = np.rint(np.hypot(real, imaginary) * draws.uniform(500, 1500)).astype(np.int16)
    return image
