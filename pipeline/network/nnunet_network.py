"""nnU-Net's plain U-Net, from the package dynamic-network-architectures, and its weights in MONAI's `DynUNet`.

The package comes with the extra ``nnunet``. Settings are those of nnU-Net 2.8 (`ExperimentPlanner` of its package).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pipeline.network.network_spec import MONAI_NETWORKS, NetworkSpec

PACKAGE = "dynamic_network_architectures"

PLAIN_CONV_UNET = NetworkSpec(f"{PACKAGE}.architectures.unet.PlainConvUNet", {"deep_supervision": True})
"""nnU-Net's network; its other arguments are `SETTINGS`, and stages, features and strides that follow from the plan."""

SETTINGS: Mapping[str, Any] = {
    "conv_op": "$torch.nn.Conv3d",
    "kernel_sizes": 3,
    "n_conv_per_stage": 2,
    "n_conv_per_stage_decoder": 2,
    "conv_bias": True,
    "norm_op": "$torch.nn.InstanceNorm3d",
    "norm_op_kwargs": {"affine": True},
    "nonlin": "$torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
"""Arguments that nnU-Net gives to the networks of its package; many have no usable default."""

FIRST_FEATURES, MOST_FEATURES = 32, 320


def is_from_package(spec: NetworkSpec) -> bool:
    """Return whether the class of a network is one of nnU-Net's package."""
    return spec.target.startswith(f"{PACKAGE}.")


def nnunet_features(stages: int) -> list[int]:
    """Return the features of each stage, which double up to a limit.

    Examples
    --------
    >>> from pipeline.network.nnunet_network import nnunet_features
    >>> nnunet_features(6)
    [32, 64, 128, 256, 320, 320]
    """
    return [min(FIRST_FEATURES * 2**stage, MOST_FEATURES) for stage in range(stages)]


def initialize(network: nn.Module) -> None:
    """Draw initial weights as nnU-Net does, if the network comes from its package; torch's generator is used."""
    draw = getattr(network, "initialize", None)
    if draw is not None and type(network).__module__.startswith(f"{PACKAGE}."):
        network.apply(draw)


def is_nnunet(spec: NetworkSpec) -> bool:
    """Return whether a network is nnU-Net's, with or without deep supervision, whatever weights it begins with."""
    return spec.target == PLAIN_CONV_UNET.target and spec.arguments.keys() <= {"deep_supervision"}


def as_dyn_unet(arguments: Mapping[str, object]) -> NetworkSpec:
    """Return MONAI's network that computes the same as a `PLAIN_CONV_UNET` in evaluation.

    Parameters
    ----------
    arguments
        All arguments of the `PLAIN_CONV_UNET`, as `pipeline.network.network_arguments` gives them.
    """
    strides = arguments["strides"]
    assert isinstance(strides, Sequence)
    return NetworkSpec(
        f"{MONAI_NETWORKS}.DynUNet",
        {
            "kernel_size": [3] * len(strides),
            "strides": list(strides),
            "upsample_kernel_size": list(strides[1:]),
            "filters": arguments["features_per_stage"],
            "norm_name": ["INSTANCE", {"affine": True}],
            "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
            "trans_bias": True,
        },
    )


def load_into_dyn_unet(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of a `PLAIN_CONV_UNET` into the network of `as_dyn_unet`.

    The biases of convolutions are left out: the instance normalization behind each subtracts them again. So are the
    outputs at lower resolutions.

    Raises
    ------
    ValueError
        If the weights are not those of such a network.
    """
    stages = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.stages."))
    names = ["input_block", *(f"downsamples.{index}" for index in range(stages - 2)), "bottleneck"]
    blocks = {name: f"encoder.stages.{stage}.0" for stage, name in enumerate(names)}
    blocks |= {f"upsamples.{stage}.conv_block": f"decoder.stages.{stage}" for stage in range(stages - 1)}
    sources = {}
    for block, source in blocks.items():
        for index in (1, 2):
            sources[f"{block}.conv{index}.conv.weight"] = f"{source}.convs.{index - 1}.conv.weight"
            for kind in ("weight", "bias"):
                sources[f"{block}.norm{index}.{kind}"] = f"{source}.convs.{index - 1}.norm.{kind}"
    for kind in ("weight", "bias"):
        for stage in range(stages - 1):
            sources[f"upsamples.{stage}.transp_conv.conv.{kind}"] = f"decoder.transpconvs.{stage}.{kind}"
        sources[f"output_block.conv.conv.{kind}"] = f"decoder.seg_layers.{stages - 2}.{kind}"
    if lost := [source for source in sources.values() if source not in weights]:
        raise ValueError(f"the weights lack {lost[0]}")
    result = network.load_state_dict({name: weights[source] for name, source in sources.items()}, strict=False)
    # `DynUNet` lists its blocks a second time under this name.
    others = [name for name in result.missing_keys if not name.startswith("skip_layers.")]
    if others or result.unexpected_keys:
        raise ValueError(f"the network has no weights for {[*others, *result.unexpected_keys][0]}")
