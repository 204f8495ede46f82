"""Augmentation of a whole batch of tensors in one pass; parameters come from (seed, fold, draw) alone.

One interpolation covers flips, rotation and scaling; intensities change by gain, shift, gamma, blur and noise. Ranges
follow nnU-Net's kinds (Isensee et al. 2021, supplementary note 4), milder, since budgets are short. Flips are off by
default: anatomy is not symmetric under them, and a short training cannot afford to learn every mirrored one too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from pipeline.data.plan import Plan
from pipeline.network.rotation import rotation, sampling_matrix
from pipeline.system.random_streams import stream


@dataclass(frozen=True, slots=True)
class AugmentationRanges:
    """Probabilities and ranges; rotation in degrees, noise and shift in standard deviations of the image."""

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


class Augmentation:
    """Turn crops into augmented patches.

    Parameters
    ----------
    plan
        Gives the patch and the spacing (rotations are rigid in mm, not in voxels).
    seed, fold
        Name the random streams.
    """

    def __init__(self, plan: Plan, seed: int, fold: int, ranges: AugmentationRanges | None = None) -> None:
        self.plan, self.seed, self.fold = plan, seed, fold
        self.ranges = ranges or AugmentationRanges()

    def __call__(self, image: torch.Tensor, label: torch.Tensor, first_draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return patches of crops: image (B, C, *crop), label (B, 1, *crop), sample i being draw `first_draw` + i."""
        images, labels = [], []
        for i, (crop, target) in enumerate(zip(image.split(1), label.split(1), strict=True)):
            random = stream(self.seed, "augmentation", self.fold, first_draw + i)
            patch, moved = self._moved(crop, target, self._theta(random, crop.shape[2:]))
            images.append(self._intensity(patch[0], random))
            labels.append(moved)
        return torch.stack(images), torch.cat(labels)

    def _moved(
        self, image: torch.Tensor, label: torch.Tensor, theta: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patches of a crop (1, C, *crop) and its label, cut where nothing moves them, else interpolated."""
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
        """Return the (3, 4) matrix of `affine_grid`, from normalised patch to normalised crop coordinates (z, y, x)."""
        ranges = self.ranges
        flips = np.where(random.random(3) < ranges.flip, -1.0, 1.0)
        apply = random.random() < ranges.affine
        angles = np.deg2rad(random.uniform(-ranges.rotation_degrees, ranges.rotation_degrees, 3)) * apply
        scale = np.exp(random.uniform(*np.log(ranges.scale)) * apply)
        spacing = np.asarray(self.plan.spacing_mm)
        in_mm = rotation(angles) * scale
        return sampling_matrix(np.diag(1 / spacing) @ in_mm @ np.diag(spacing * flips), crop, self.plan.patch)

    def _intensity(self, image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Return one image (C, *patch) with changed intensities."""
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
            generator = torch.Generator().manual_seed(noise_seed)
            image = image + noise_std * torch.randn(image.shape, generator=generator).to(image)
        return image


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the image (C, *patch) smoothed along each axis by a Gaussian of `sigma` voxels."""
    radius = 2
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    result = image[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 2 * radius + 1, radius
        result = functional.conv3d(result, kernel.reshape(shape), padding=padding)
    return result[:, 0]


def _gamma(image: torch.Tensor, exponents: np.ndarray) -> torch.Tensor:
    """Return the image (C, *patch) with each channel's range raised to a power, mean and deviation kept."""
    low = image.amin((1, 2, 3), keepdim=True)
    span = (image.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
    column = torch.from_numpy(exponents).to(image)[:, None, None, None]
    changed = ((image - low) / span) ** column * span + low
    mean, std = image.mean((1, 2, 3), keepdim=True), image.std((1, 2, 3), keepdim=True)
    changed_mean, changed_std = changed.mean((1, 2, 3), keepdim=True), changed.std((1, 2, 3), keepdim=True)
    return (changed - changed_mean) / changed_std.clamp_min(1e-6) * std + mean
