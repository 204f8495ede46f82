"""What a scanner makes of a phantom: contrast, partial volume, a field of sensitivity, noise."""

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
    Tissue.GREY: 0.55,
    Tissue.WHITE: 0.41,
    Tissue.DEEP_GREY: 0.70,
    Tissue.NUCLEUS: 0.88,
    Tissue.LESION: 1.0,
}
"""As on a FLAIR image: fluid dark, white matter darker than grey, lesions bright."""

NOISE = 0.035
"""Standard deviation of the noise in each of the two channels of the receiver, in units of a lesion's brightness."""

AT_ONCE = 50_000
"""Voxels that are cut into parts at once, which bounds the memory."""


def brightness_of_tissues(draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the brightness of every tissue in one person: (tissues,), indexed by `Tissue`."""
    typical = np.array([BRIGHTNESS[tissue] for tissue in Tissue])
    return typical * draws.normal(1, 0.03, len(typical))


def partial_volumes(
    head: Head, grid: Grid, half_mm: NDArray[np.float64], tissue: NDArray[np.uint8], levels: dict[int, float]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Yield the voxels (N, 3) that may hold several tissues, and the tissues of their parts (N, parts of a voxel).

    They are those with a neighbour of another tissue; `tissue` is that of the middles of voxels, (I, J, K).
    """
    mixed = np.argwhere(maximum_filter(tissue, 3) != minimum_filter(tissue, 3))
    for first in range(0, len(mixed), AT_ONCE):
        voxels = mixed[first : first + AT_ONCE]
        yield voxels, head.fields(grid.parts_mm(voxels) / half_mm).tissue(levels)


def sensitivity(points: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the bias field at `points` (..., 3) within -1 to 1: smooth, around 1, about a quarter up and down."""
    linear, square = draws.normal(0, 0.13, 3), draws.normal(0, 0.08, 3)
    return np.exp(points @ linear + (points**2 - 0.3) @ square)


def receive(brightness: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.int16]:
    """Return the magnitude image: a slight blur, Rician noise and a gain of the scanner's own.

    Source: Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", MRM 34 (1995).
    """
    blurred = gaussian_filter(brightness, 0.35, mode="nearest")
    real = blurred + draws.normal(0, NOISE, blurred.shape)
    imaginary = draws.normal(0, NOISE, blurred.shape)
    image: NDArray[np.int16] = np.rint(np.hypot(real, imaginary) * draws.uniform(500, 1500)).astype(np.int16)
    return image
