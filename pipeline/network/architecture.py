"""The network of a study, by default a 3D U-Net sized by the plan, and its initial weights for a seed and a fold."""

import torch
from monai.networks.nets import DynUNet
from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.named_network import build_named_network
from pipeline.network.network_spec import NetworkSpec
from pipeline.system.random_streams import derived_seed

PLAN_NETWORK = NetworkSpec()
"""The network that the plan describes."""


def build_network(
    plan: Plan, in_channels: int, classes: int, seed: int, fold: int, spec: NetworkSpec | None = None
) -> nn.Module:
    """Return MONAI's `DynUNet`, or the network of `spec`, with weights drawn for (seed, fold).

    The global random generators are left unchanged.

    Parameters
    ----------
    plan
        Features per level, strides and stem.
    in_channels
        Channels of the image.
    classes
        Classes, including the background.
    seed, fold
        Select the random stream of the weights.
    spec
        Class and arguments of the network; None, like `PLAN_NETWORK`, for the network of the plan.

    Returns
    -------
    Module
        From images (B, in_channels, *patch) to logits (B, classes, *patch), background first.

    Raises
    ------
    ConfigError
        If the network of `spec` cannot be built, or does not give such logits.
    """
    weights_seed = derived_seed(seed, "weights", fold)
    if spec is not None and not spec.is_default:
        return build_named_network(spec, plan, in_channels, classes, weights_seed)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        return build_plan_network(plan, in_channels, classes)


def build_plan_network(plan: Plan, in_channels: int, classes: int) -> nn.Module:
    """Return the network of a plan, with weights from torch's global random generator.

    It is the plain U-Net of nnU-Net with two convolutions per level. Where the plan's stem is coarser than a voxel, a
    strided convolution leads into the U-Net and a transposed convolution out of it.

    The network has no dropout, as nnU-Net's. It uses instance normalization: batches are as small as two patches, and a
    network of averaged weights needs no new batch statistics.
    """
    levels, stem, features = len(plan.channels), plan.stem, stem_features(plan)
    unet = DynUNet(
        spatial_dims=3,
        in_channels=in_channels if features is None else features[0],
        out_channels=classes if features is None else features[1],
        kernel_size=[3] * levels,
        strides=[1, *plan.strides],
        upsample_kernel_size=list(plan.strides),
        filters=list(plan.channels),
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
    )
    if features is None:
        return unet
    into_unet = nn.Conv3d(in_channels, features[0], stem, stem)
    return nn.Sequential(into_unet, unet, nn.ConvTranspose3d(features[1], classes, stem, stem))


def stem_features(plan: Plan) -> tuple[int, int] | None:
    """Return the features that enter and that leave the U-Net inside a stem, or None without a stem."""
    return None if plan.stem == (1, 1, 1) else (plan.channels[0] // 2, plan.channels[0])
