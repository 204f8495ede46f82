"""The network of a bundle, built from MONAI's and torch's parts, and the weights of an ensemble."""

from collections.abc import Mapping, Sequence

import torch

from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.named_network import CHANNELS, CLASSES
from pipeline.bundle.template import Config, Json, fill_template


def network_config(settings: ModelSettings, channels: int | str, classes: int | str) -> Config:
    """Return ``network_def`` and the parts that it refers to, as `pipeline.network.architecture` builds the network.

    Parameters
    ----------
    settings
        Levels, strides and stem of the network. With a stem, the U-Net stands between the convolutions ``into`` and
        ``out_of`` the patches of the stem.
    channels, classes
        Channels of the input and of the output (background included): numbers, or references such as
        ``@num_channels``.
    """
    if settings.network is not None:
        return {
            "network_def": {
                "_target_": settings.network.target,
                **settings.network.arguments,
                CHANNELS: channels,
                CLASSES: classes,
            }
        }
    has_stem = settings.stem != (1, 1, 1)
    # As `pipeline.network.architecture.stem_features`; a test builds both networks and compares their outputs.
    unet_channels, unet_features = settings.features[0] // 2, settings.features[0]
    unet: dict[str, Json] = {
        "in_channels": unet_channels if has_stem else channels,
        "out_channels": unet_features if has_stem else classes,
        "kernel_size": [3] * len(settings.features),
        "strides": settings.strides,
        "features": settings.features,
    }
    values: dict[str, Json] = {
        "unet": fill_template("unet", unet),
        "has_stem": has_stem,
        "stem": settings.stem,
        "channels": channels,
        "classes": classes,
        "unet_channels": unet_channels,
        "unet_features": unet_features,
    }
    return fill_template("network", values)


def ensemble_config(settings: ModelSettings, channels: int, classes: int, members: int) -> Config:
    """Return ``network_def`` of one network that gives the mean of its members' logits, and its parts.

    The logits of each member are concatenated to its input, a fixed 1 x 1 convolution leads the next member back to
    the image, and a last convolution takes the mean. So an ensemble is exported, traced and verified like a single
    network.
    """
    parts = [part for part in network_config(settings, channels, classes).values() if isinstance(part, dict)]
    config: Config = {
        f"member_{index}": [_pointwise(channels + index * classes, channels), *parts] for index in range(members)
    }
    concatenated = [
        {
            "_target_": "monai.networks.layers.SkipConnection",
            "submodule": f"$torch.nn.Sequential(*@member_{index})",
            "dim": 1,
            "mode": "cat",
        }
        for index in range(members)
    ]
    config["members"] = [*concatenated, _pointwise(channels + members * classes, classes)]
    return config | {"network_def": "$torch.nn.Sequential(*@members)"}


def _pointwise(inputs: int, outputs: int) -> Config:
    return {
        "_target_": "torch.nn.Conv3d",
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": 1,
        "bias": False,
    }


def ensemble_weights(
    members: Sequence[Mapping[str, torch.Tensor]], channels: int, classes: int
) -> dict[str, torch.Tensor]:
    """Return the weights of the network of `ensemble_config`.

    Parameters
    ----------
    members
        Weights of each member by name.
    channels, classes
        Channels of the input, and of the output with the background.
    """
    weights: dict[str, torch.Tensor] = {}
    for index, member in enumerate(members):
        select = torch.zeros(channels, channels + index * classes, 1, 1, 1)
        select[torch.arange(channels), torch.arange(channels)] = 1
        weights[f"{index}.submodule.0.weight"] = select
        weights |= {f"{index}.submodule.{_name_in_ensemble(name)}": tensor for name, tensor in member.items()}
    mean = torch.zeros(classes, channels + len(members) * classes, 1, 1, 1)
    for index in range(len(members)):
        mean[torch.arange(classes), channels + index * classes + torch.arange(classes)] = 1 / len(members)
    weights[f"{len(members)}.weight"] = mean
    return weights


def _name_in_ensemble(name: str) -> str:
    """Return the name of a weight after the 1 x 1 convolution that precedes its network in a member.

    Examples
    --------
    >>> _name_in_ensemble("output_block.conv.weight")  # a network that is one module
    '1.output_block.conv.weight'
    >>> _name_in_ensemble("0.bias")  # a network that is a sequence: into, unet, out_of
    '1.bias'
    """
    first, _, rest = name.partition(".")
    return f"{int(first) + 1}.{rest}" if first.isdigit() else f"1.{name}"
