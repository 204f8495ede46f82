"""What a scanner makes of a phantom: contrast, partial volume, a field of sensitivity, noise."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.data.phantoms.anatomy import Tissue

BRIGHTNESS = {
    Tissue.AIR: 0.0,
    Tissue.SKIN: 0.80,
    Tissue.SKULL: 0.10,
    Tissue.FLUID: 0.17,
    Tissue.GREY: 0.55,
    Tissue.WHITE: 0.41,
    Tissue.DEEP_GREY: 0.70,
    Tissue.NUCLEUS: 0.88,
    Tissue.LESION: 1.0,
}
"""As on a FLAIR image: fluid dark, white matter darker than grey, lesions bright; skin is bright too."""

NOISE = 0.035
"""Standard deviation of the noise in each of the two channels of the receiver, in units of a lesion's brightness."""


def brightness_of_tissues(draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the brightness of every tissue in one person: (tissues,), indexed by `Tissue`."""
    typical = np.array([BRIGHTNESS[tissue] for tissue in Tissue])
    return typical * draws.normal(1, 0.03, len(typical))


def mean_over_parts(values: NDArray[np.float64], parts: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the mean of the parts of each voxel: (I * a, J * b, K * c) to (I, J, K), the partial volume effect."""
    a, b, c = parts
    i, j, k = values.shape
    mean: NDArray[np.float64] = values.reshape(i // a, a, j // b, b, k // c, c).mean(axis=(1, 3, 5))
    return mean


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
