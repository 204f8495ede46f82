"""nnU-Net's augmentation by its own package, batchgeneratorsv2, which comes with the extra ``nnunet``.

Transforms, order, probabilities and ranges are those of ``nnUNetTrainer.get_training_transforms`` of nnU-Net 2.8. The
first axis of its volumes has the largest spacing; crops are turned so and back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.data.plan import Plan
from pipeline.network.network_noise import seeded_generators
from pipeline.system.random_streams import derived_seed

if TYPE_CHECKING:
    from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

Range = tuple[float, float]

SIDES = (("left", "right"), (r"(?<![a-z])l(?![a-z])", "r"))
"""Patterns of the left side in the name of a class, and the right side in their place."""


@dataclass(frozen=True, slots=True)
class NnUNetRanges:
    """Probabilities and ranges of nnU-Net's augmentation.

    Attributes
    ----------
    rotation, scaling, noise, blur, brightness, contrast, low_resolution, inverted_gamma, gamma
        Probability of each change of a patch.
    mirror
        Axes, of R, A and S, along each of which half of the patches are mirrored.
    rotation_degrees
        Largest rotation about each axis.
    in_plane_degrees
        Largest rotation of an anisotropic patch, which is rotated and scaled within its slices alone.
    anisotropy
        A patch is anisotropic if its longest edge has more than this many times the voxels of the axis of slices.
    scale
        Range of the scale; above 1 the patch shows more of the anatomy.
    noise_variance, blur_sigma, multiplier, resolution, exponent
        Ranges of the noise's standard deviation (called variance in nnU-Net), of the blur in voxels, of the factors of
        brightness and contrast, of the lower resolution, and of gamma.
    channel_share
        Probability that a channel of a blurred or coarser patch changes.
    crop_scale
        Smallest scale for the size of the crop.
    """

    rotation: float = 0.2
    scaling: float = 0.2
    noise: float = 0.1
    blur: float = 0.2
    brightness: float = 0.15
    contrast: float = 0.15
    low_resolution: float = 0.25
    inverted_gamma: float = 0.1
    gamma: float = 0.3
    mirror: tuple[int, ...] = (0, 1, 2)
    rotation_degrees: float = 30.0
    in_plane_degrees: float = 180.0
    anisotropy: float = 3.0
    scale: Range = (0.7, 1.4)
    noise_variance: Range = (0.0, 0.1)
    blur_sigma: Range = (0.5, 1.0)
    multiplier: Range = (0.75, 1.25)
    resolution: Range = (0.5, 1.0)
    exponent: Range = (0.7, 1.5)
    channel_share: float = 0.5
    crop_scale: float = 0.85

    def for_classes(self, names: Iterable[str]) -> "NnUNetRanges":
        """Return the ranges for a dataset: left and right are not mirrored if two of its classes are named by side.

        Examples
        --------
        >>> from pipeline.training.nnunet_augmentation import NnUNetRanges
        >>> NnUNetRanges().for_classes(["liver", "kidney_left", "kidney_right"]).mirror
        (1, 2)
        """
        lower = {name.lower() for name in names}
        mirrored = {(name, re.sub(left, right, name)) for name in lower for left, right in SIDES}
        if not any(other != name and other in lower for name, other in mirrored):
            return self
        return replace(self, mirror=tuple(axis for axis in self.mirror if axis != 0))

    def is_anisotropic(self, plan: Plan) -> bool:
        """Return whether patches are rotated and scaled within their slices alone."""
        return max(plan.patch) / plan.patch[axes_of_nnunet(plan)[0]] > self.anisotropy

    def degrees(self, plan: Plan) -> float:
        """Return the largest rotation of a patch."""
        return self.in_plane_degrees if self.is_anisotropic(plan) else self.rotation_degrees

    def crop_shape(self, plan: Plan) -> tuple[int, int, int]:
        """Return the edges in voxels of the crops that patches are made from (``get_patch_size`` of nnU-Net).

        A crop holds a corner of the patch, rotated about any one axis in one direction, at the scale `crop_scale`.
        Edges are those of the patch plus an even number, so that a patch without rotation and scaling is cut out.
        """
        angle = np.deg2rad(min(90.0, self.degrees(plan)))
        axes = axes_of_nnunet(plan)
        patch = np.asarray(plan.patch, dtype=float)[axes]
        along, across = np.cos(angle) * patch, np.sin(angle) * patch
        rotated = np.maximum(np.abs(along + np.roll(across, -1)), np.abs(along - np.roll(across, 1)))
        edges = np.maximum(patch, rotated) / self.crop_scale
        if self.is_anisotropic(plan):
            edges[0] = patch[0]
        x, y, z = (int(edge + (longer - edge) // 2 * 2) for edge, longer in zip(patch, edges, strict=True))
        shape = dict(zip(axes, (x, y, z), strict=True))
        return shape[0], shape[1], shape[2]

    def build(self, plan: Plan, seed: int, fold: int) -> "NnUNetAugmentation":
        """Return the augmentation with the random streams of a seed and fold."""
        return NnUNetAugmentation(plan, seed, fold, self)


class NnUNetAugmentation:
    """Make patches from crops as nnU-Net does.

    The random numbers of a patch depend on (seed, fold, draw) alone.

    Parameters
    ----------
    plan
        Gives patch and spacing.
    seed, fold
        Select the random streams.
    ranges
        Probabilities and ranges.
    """

    on_cpu = True
    """A GPU would draw other random numbers for the same seed."""

    def __init__(self, plan: Plan, seed: int, fold: int, ranges: NnUNetRanges) -> None:
        self.seed, self.fold = seed, fold
        self.axes = axes_of_nnunet(plan)
        patch = tuple(plan.patch[axis] for axis in self.axes)
        mirror = tuple(sorted(self.axes.index(axis) for axis in ranges.mirror))
        own_axes = replace(ranges, mirror=mirror)
        self.transforms = nnunet_transforms(patch, own_axes, ranges.is_anisotropic(plan), ranges.degrees(plan))

    def __call__(self, image: torch.Tensor, label: torch.Tensor, first_draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented patches of a batch of crops; see `pipeline.training.augmentation.Augmentation`."""
        order = [0, *(1 + axis for axis in self.axes)]
        back = [order.index(axis) for axis in range(4)]
        images, labels = [], []
        for i, (crop, target) in enumerate(zip(image, label, strict=True)):
            # Several transforms change their input in place.
            sample = {"image": crop.permute(order).clone(), "segmentation": target.permute(order).to(torch.int16)}
            with seeded_generators(derived_seed(self.seed, "nnunet augmentation", self.fold, first_draw + i)):
                changed = self.transforms(**sample)
            images.append(changed["image"].permute(back))
            labels.append(changed["segmentation"].permute(back).float())
        return torch.stack(images), torch.stack(labels)


def axes_of_nnunet(plan: Plan) -> list[int]:
    """Return the axes in the order of nnU-Net: the one with the largest spacing first, then the others.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> axes_of_nnunet(SimpleNamespace(spacing_mm=(1.0, 1.0, 3.0)))
    [2, 0, 1]
    """
    first = plan.spacing_mm.index(max(plan.spacing_mm))
    return [first, *(axis for axis in range(3) if axis != first)]


def nnunet_transforms(
    patch: tuple[int, ...], ranges: NnUNetRanges, anisotropic: bool, degrees: float
) -> "BasicTransform":
    """Return the transforms of nnU-Net's training, from crops (C, *crop) to patches (C, *patch).

    Parameters
    ----------
    patch
        Edges of the patch, the axis of slices first.
    ranges
        Probabilities and ranges; `mirror` counts the axes as `patch` does.
    anisotropic
        True if patches are rotated and scaled within their slices alone.
    degrees
        Largest rotation.
    """
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

    angle = float(np.deg2rad(degrees))
    spatial: list[BasicTransform] = [
        SpatialTransform(
            patch[1:] if anisotropic else patch,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=ranges.rotation,
            rotation=(-angle, angle),
            p_scaling=ranges.scaling,
            scaling=ranges.scale,
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=-1,
        )
    ]
    if anisotropic:
        spatial = [Convert3DTo2DTransform(), *spatial, Convert2DTo3DTransform()]
    each: dict[str, Any] = {"synchronize_channels": False, "p_per_channel": 1}
    some = {"synchronize_channels": False, "p_per_channel": ranges.channel_share}
    multiplier, exponent = BGContrast(ranges.multiplier), BGContrast(ranges.exponent)
    intensities = [
        (GaussianNoiseTransform(ranges.noise_variance, p_per_channel=1, synchronize_channels=True), ranges.noise),
        # nnU-Net measures whether a convolution or a Fourier transform is faster; their last digits differ.
        (GaussianBlurTransform(ranges.blur_sigma, synchronize_axes=False, benchmark=False, **some), ranges.blur),
        (MultiplicativeBrightnessTransform(multiplier, **each), ranges.brightness),
        (ContrastTransform(multiplier, preserve_range=True, **each), ranges.contrast),
        (
            SimulateLowResolutionTransform(
                ranges.resolution, synchronize_axes=True, ignore_axes=(0,) if anisotropic else None, **some
            ),
            ranges.low_resolution,
        ),
        (GammaTransform(exponent, p_invert_image=1, p_retain_stats=1, **each), ranges.inverted_gamma),
        (GammaTransform(exponent, p_invert_image=0, p_retain_stats=1, **each), ranges.gamma),
    ]
    return ComposeTransforms(
        [
            *spatial,
            *(RandomTransform(transform, apply_probability=probability) for transform, probability in intensities),
            *([MirrorTransform(allowed_axes=ranges.mirror)] if ranges.mirror else []),
            RemoveLabelTansform(-1, 0),
        ]
    )
