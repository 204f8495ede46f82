"""Augmentation of crops, on the device of the training; all random numbers depend on (seed, fold, draw) alone.

One interpolation covers flips, rotation and scaling. Intensities change by gain, shift, gamma, blur and noise. The
kinds follow nnU-Net (Isensee et al. 2021, supplementary note 4). The ranges are milder, since budgets are short. Flips
are off by default: anatomy is not symmetric, and a short training cannot afford to learn the mirrored anatomy too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.data.plan import Plan
from pipeline.network.rotation import rotation, sampling_matrix
from pipeline.system.random_streams import stream


@dataclass(frozen=True, slots=True)
class AugmentationRanges:
    """Probabilities and ranges of the augmentation.

    Attributes
    ----------
    flip
        Probability of a flip along each axis.
    affine
        Probability of rotation and scaling.
    rotation_degrees
        Largest rotation about each axis, in either direction.
    scale
        Range of the scale; above 1 the patch shows more of the anatomy.
    gain
        Largest relative change of contrast.
    shift
        Largest change of brightness, in standard deviations of the image.
    gamma
        Range of the exponent.
    intensity
        Probability of gamma, gain and shift together.
    noise
        Probability of Gaussian noise.
    noise_std
        Largest standard deviation of the noise, in standard deviations of the image.
    blur
        Probability of a Gaussian blur.
    blur_sigma
        Range of the standard deviation of the blur in voxels.
    margin
        Ratio of crop to patch along each axis, so that rotated and scaled patches contain real voxels.
    """

    flip: float = 0.0
    affine: float = 0.5
    rotation_degrees: float = 15.0
    scale: tuple[float, float] = (0.85, 1.2)
    gain: float = 0.25
    shift: float = 0.2
    gamma: tuple[float, float] = (0.7, 1.5)
    intensity: float = 0.5
    noise: float = 0.2
    noise_std: float = 0.1
    blur: float = 0.2
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    margin: float = 1.25

    def for_classes(self, names: Iterable[str]) -> "AugmentationRanges":
        """Return the ranges for a dataset with classes of these names; they are the same for all."""
        return self

    def crop_shape(self, plan: Plan) -> tuple[int, int, int]:
        """Return the edges in voxels of the crops that a patch is made from; they are even, but for a margin of 1."""
        if self.margin == 1:
            return plan.patch
        x, y, z = (int(np.ceil(edge * self.margin / 2)) * 2 for edge in plan.patch)
        return x, y, z

    def build(self, plan: Plan, seed: int, fold: int) -> "Augmentation":
        """Return the augmentation with the random streams of a seed and fold."""
        return Augmentation(plan, seed, fold, self)


NO_AUGMENTATION = AugmentationRanges(affine=0, intensity=0, noise=0, blur=0, margin=1)
"""Patches as they are."""


class Augmentation:
    """Make augmented patches from crops.

    Parameters
    ----------
    plan
        Gives patch and spacing; rotations are rigid in mm, not in voxels.
    seed, fold
        Select the random streams.
    ranges
        Probabilities and ranges; the defaults if omitted.
    """

    on_cpu = False
    """True for an augmentation that does not run on the device of the training."""

    def __init__(self, plan: Plan, seed: int, fold: int, ranges: AugmentationRanges | None = None) -> None:
        self.plan, self.seed, self.fold = plan, seed, fold
        self.ranges = ranges or AugmentationRanges()

    def __call__(self, image: torch.Tensor, label: torch.Tensor, first_draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented patches of a batch of crops.

        Parameters
        ----------
        image
            Crops (B, C, *crop) float32.
        label
            Class indices (B, 1, *crop) float32.
        first_draw
            Number of the first crop's draw; crop i is draw ``first_draw + i``.

        Returns
        -------
        tuple of Tensor
            Image (B, C, *patch) and class indices (B, 1, *patch), float32.
        """
        images, labels = [], []
        for i, (crop, target) in enumerate(zip(image.split(1), label.split(1), strict=True)):
            random = stream(self.seed, "augmentation", self.fold, first_draw + i)
            patch, patch_label = self._resample(crop, target, self._theta(random, crop.shape[2:]))
            images.append(self._intensity(patch[0], random))
            labels.append(patch_label)
        return torch.stack(images), torch.cat(labels)

    def _resample(
        self, image: torch.Tensor, label: torch.Tensor, theta: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patches of a crop (1, C, *crop) and of its label (1, 1, *crop).

        Without flip, rotation or scaling the patch is the middle of the crop, which saves the interpolation.
        """
        crop, patch = np.asarray(image.shape[2:]), np.asarray(self.plan.patch)
        start, odd = np.divmod(crop - patch, 2)
        if not odd.any() and np.allclose(theta[:, :3], np.diag((patch / crop)[::-1])):
            x, y, z = (slice(first, first + edge) for first, edge in zip(start.tolist(), self.plan.patch, strict=True))
            return image[..., x, y, z], label[..., x, y, z]
        grid = functional.affine_grid(theta.to(image)[None], [1, 1, *self.plan.patch], align_corners=False)
        return (
            functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False),
            functional.grid_sample(label, grid, mode="nearest", padding_mode="zeros", align_corners=False),
        )

    def _theta(self, random: np.random.Generator, crop: torch.Size) -> torch.Tensor:
        """Return the matrix (3, 4) of `affine_grid`, from normalized patch to normalized crop coordinates (z, y, x)."""
        ranges = self.ranges
        # All numbers are drawn whether or not they are used, so that one probability does not change other draws.
        flips = np.where(random.random(3) < ranges.flip, -1.0, 1.0)
        apply = random.random() < ranges.affine
        angles = np.deg2rad(random.uniform(-ranges.rotation_degrees, ranges.rotation_degrees, 3)) * apply
        scale = np.exp(random.uniform(*np.log(ranges.scale)) * apply)
        spacing = np.asarray(self.plan.spacing_mm)
        in_mm = rotation(angles) * scale
        return sampling_matrix(np.diag(1 / spacing) @ in_mm @ np.diag(spacing * flips), crop, self.plan.patch)

    def _intensity(self, image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Return one patch (C, *patch) with changed intensities."""
        ranges = self.ranges
        chances = random.random(3)
        gain, shift, gamma = random.random((3, image.shape[0]))
        sigma = random.uniform(*ranges.blur_sigma)
        noise_std = random.uniform(0, ranges.noise_std)
        noise_seed = int(random.integers(2**62))
        if chances[0] < ranges.blur:
            image = _blur(image, sigma)
        if chances[1] < ranges.intensity:
            image = _gamma(image, np.exp(np.log(ranges.gamma[0]) + gamma * np.log(ranges.gamma[1] / ranges.gamma[0])))
            column = (slice(None), None, None, None)
            gains = torch.from_numpy(1 + ranges.gain * (2 * gain - 1)).to(image)[column]
            image = image * gains + torch.from_numpy(ranges.shift * (2 * shift - 1)).to(image)[column]
        if chances[2] < ranges.noise:
            # The noise is drawn on the CPU: a GPU's generator gives other numbers for the same seed.
            generator = torch.Generator().manual_seed(noise_seed)
            image = image + noise_std * torch.randn(image.shape, generator=generator).to(image)
        return image


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return a patch (C, *patch) smoothed along each axis by a Gaussian of `sigma` voxels."""
    radius = 2  # twice the largest sigma
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    result = image[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 2 * radius + 1, radius
        result = functional.conv3d(result, kernel.reshape(shape), padding=padding)
    return result[:, 0]


def _gamma(image: torch.Tensor, exponents: NDArray[np.float64]) -> torch.Tensor:
    """Return a patch (C, *patch) with a power of each channel's values, scaled to 0..1 and back.

    Mean and standard deviation of each channel stay the same.
    """
    low = image.amin((1, 2, 3), keepdim=True)
    span = (image.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
    column = torch.from_numpy(exponents).to(image)[:, None, None, None]
    changed = ((image - low) / span) ** column * span + low
    mean, std = image.mean((1, 2, 3), keepdim=True), image.std((1, 2, 3), keepdim=True)
    changed_mean, changed_std = changed.mean((1, 2, 3), keepdim=True), changed.std((1, 2, 3), keepdim=True)
    return (changed - changed_mean) / changed_std.clamp_min(1e-6) * std + mean
