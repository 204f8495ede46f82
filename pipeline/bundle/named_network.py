"""A network of MONAI as data in a bundle: its name and its arguments, from which the configuration is written."""

import keyword
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn

from pipeline.bundle.strict_model import StrictModel
from pipeline.data.plan import Plan
from pipeline.errors import BundleError
from pipeline.network.named_network import build_named_network
from pipeline.network.network_arguments import network_arguments
from pipeline.network.network_spec import MONAI_NETWORKS, NetworkSpec
from pipeline.network.network_trial import try_network
from pipeline.network.nnunet_network import as_dyn_unet, is_nnunet, load_into_dyn_unet

NETWORKS = (
    "AHNet", "AttentionUnet", "AutoEncoder", "BasicUNet", "DynUNet", "FlexibleUNet", "HighResNet", "LocalNet",
    "MedNeXt", "RegUNet", "SegResNet", "SegResNetDS", "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""Classes of `MONAI_NETWORKS` that a bundle may name: their constructors read no files and download nothing."""

CHANNELS, CLASSES = "in_channels", "out_channels"
"""Arguments of all `NETWORKS` that the configurations replace by the bundle's channels and classes."""

LARGEST_NUMBER = 4096
MOST_ITEMS = 64
MOST_BLOCKS = 64
COUNTS = frozenset(
    {
        "layers",
        "blocks_down",
        "blocks_up",
        "blocks_bottleneck",
        "depths",
        "depth",
        "repeat",
        "num_res_units",
        "num_inter_units",
        "psp_block_num",
        "dsdepth",
        "extract_levels",
    }
)
"""Arguments that count blocks. Each block takes time and memory even on the device ``meta``."""

DEEPEST = 4


def _check_name(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"must be one of {', '.join(NETWORKS)}")
    return name


def _check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Check that arguments are numbers, words and lists of them, which MONAI's parser does not interpret."""
    for key in (CHANNELS, CLASSES):
        if key in arguments:
            raise ValueError(f"{key} follows from the bundle")
    if arguments.get("pretrained", False) is not False:
        raise ValueError("pretrained must be false, since it would download a file")
    _check_value(arguments, 0)
    return arguments


def _check_value(value: object, depth: int, largest: int = LARGEST_NUMBER) -> None:
    if depth > DEEPEST:
        raise ValueError("arguments are nested too deep")
    if isinstance(value, dict):
        _check_size(value)
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii() and key.isidentifier()) or key.startswith("_"):
                raise ValueError(f"{str(key)[:40]!a} is not the name of an argument")
            if keyword.iskeyword(key):
                raise ValueError(f"{key} is not the name of an argument")
            _check_value(item, depth + 1, MOST_BLOCKS if key in COUNTS else largest)
    elif isinstance(value, list | tuple):
        _check_size(value)
        for item in value:
            _check_value(item, depth + 1, largest)
    elif isinstance(value, str):
        if not (value.isascii() and value.replace("_", "").replace("-", "").isalnum() and len(value) <= 40):
            raise ValueError(f"{value[:40]!a} is not a word")
    elif value is not None and not (isinstance(value, int | float) and abs(value) <= largest):
        raise ValueError(f"{str(value)[:40]!a} is not a number of at most {largest}")


def _check_size(value: dict[str, Any] | list[Any] | tuple[Any, ...]) -> None:
    if len(value) > MOST_ITEMS:
        raise ValueError(f"more than {MOST_ITEMS} values")


class NamedNetwork(StrictModel):
    """One of `NETWORKS` with all arguments but `CHANNELS` and `CLASSES`."""

    name: Annotated[str, AfterValidator(_check_name)]
    arguments: Annotated[dict[str, Any], AfterValidator(_check_arguments)]

    @property
    def target(self) -> str:
        """Import path of the class."""
        return f"{MONAI_NETWORKS}.{self.name}"


def exportable_network(spec: NetworkSpec, plan: Plan, in_channels: int, classes: int) -> NamedNetwork | None:
    """Return a network as a bundle stores it, or None for the network of the plan.

    nnU-Net's network becomes MONAI's, so that a bundle does not need nnU-Net's package.

    Raises
    ------
    BundleError
        If a bundle cannot hold the network: a class of the user is code, and some networks return several outputs.
    """
    if spec.is_default:
        return None
    if is_nnunet(spec):
        spec = as_dyn_unet(network_arguments(spec, plan, in_channels, classes))
    subject, remedy = f"--network {spec.text}", "use the weights in checkpoint.pt of each run with your own code"
    if not spec.is_monai or spec.name not in NETWORKS:
        problem = "is code that a bundle cannot hold" if not spec.is_monai else "cannot be exported as a bundle"
        raise BundleError(subject, problem, f"{remedy}; a bundle holds {', '.join(NETWORKS)}")
    arguments = network_arguments(spec, plan, in_channels, classes)
    if not try_network(spec, arguments, (plan.batch, in_channels, *plan.patch), classes).is_plain:
        raise BundleError(
            subject, "returns several outputs, of which a bundle's configuration cannot select one", remedy
        )
    others = {name: value for name, value in arguments.items() if name not in (CHANNELS, CLASSES)}
    try:
        return NamedNetwork(name=spec.name, arguments=others)
    except ValueError as error:
        reason = str(error).splitlines()[2].strip() if len(str(error).splitlines()) > 2 else str(error)
        raise BundleError(subject, f"has arguments that a bundle cannot hold ({reason})", remedy) from None


def exportable_weights(
    spec: NetworkSpec, plan: Plan, in_channels: int, classes: int, weights: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the weights of a network by their names in the network of `exportable_network`."""
    if not is_nnunet(spec):
        return weights
    twin = as_dyn_unet(network_arguments(spec, plan, in_channels, classes))
    network, _ = build_named_network(twin, plan, in_channels, classes, seed=0)
    load_into_dyn_unet(network, weights)
    return network.state_dict()


def remains_without_values(network: nn.Module) -> str:
    """Return the name of a tensor that is still on the device ``meta``, or "".

    Such a tensor is neither a weight nor a stored buffer, so that no file of weights gives it values.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    for prefix, module in network.named_modules():
        tensors += [(f"{prefix}.{key}", item) for key, item in vars(module).items() if isinstance(item, torch.Tensor)]
    return next((name for name, tensor in tensors if tensor.device.type == "meta"), "")
