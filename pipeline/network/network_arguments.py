"""The arguments of a network's class: those of the user, and those that follow from the plan and the dataset."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.network_class import network_class
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.nnunet_network import SETTINGS, is_from_package, nnunet_features

DIMENSIONS = frozenset({"spatial_dims", "dimensions", "n_dims", "ndim", "ndims", "dim"})
INPUTS = frozenset({"in_channels", "n_input_channels", "input_channels", "in_chans", "n_channels", "num_channels"})
OUTPUTS = frozenset({"out_channels", "num_classes", "n_classes", "classes", "out_classes", "output_channels"})
SIZES = frozenset({"img_size", "image_size", "input_image_size", "input_size", "in_shape"})
"""Names of arguments that every network gets: dimensions, channels, classes, and the shape of its input in voxels."""

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Levels:
    """Features of each level of a U-Net, and the strides between levels, one fewer."""

    features: tuple[int, ...]
    strides: tuple[Triple, ...]


def network_arguments(spec: NetworkSpec, plan: Plan, in_channels: int, classes: int) -> dict[str, Any]:
    """Return all arguments for the class of a network, as values that JSON can hold.

    An argument of the user wins. Numbers of channels and of classes, the dimensions and the shape of the input are
    filled in wherever the class has them. Levels, strides and kernels follow from the plan where the class requires
    them. Networks of nnU-Net's package get its settings. Other arguments keep the defaults of the class.

    Parameters
    ----------
    spec
        The network.
    plan
        Its levels and its patch are used.
    in_channels, classes
        Channels of the image, and classes including the background.

    Raises
    ------
    ConfigError
        If the class lacks an argument of the user, or requires one that does not follow from the plan.
    """
    own, inherited = check_argument_names(spec)
    names = {**inherited, **own}
    always = _for_every_network(plan, in_channels, classes)
    required = _for_u_nets(spec, plan, names)
    given = {**(SETTINGS if is_from_package(spec) else {}), **spec.arguments}
    arguments: dict[str, Any] = {}
    missing = []
    for name, parameter in names.items():
        is_required = parameter.default is parameter.empty and name in own
        if name in given:
            arguments[name] = given[name]
        elif name in always and not (name == "dim" and not is_required):
            arguments[name] = always[name]
        elif name in required and (is_required or name == "filters"):
            arguments[name] = required[name]
        elif is_required:
            missing.append(name)
    if missing:
        raise ConfigError(
            f"--network {spec.target}",
            f"requires {', '.join(missing)}, which {'does' if len(missing) == 1 else 'do'} not follow from the data",
            f"write {spec.name}{{{','.join(f'{name}=...' for name in missing)}}}",
        )
    return {**arguments, **{name: value for name, value in spec.arguments.items() if name not in arguments}}


def check_argument_names(
    spec: NetworkSpec,
) -> tuple[dict[str, inspect.Parameter], dict[str, inspect.Parameter]]:
    """Return the parameters of a network's constructor, and those of its base classes that it passes on.

    Raises
    ------
    ConfigError
        If the class cannot be imported, lacks an argument of the user, or is a class of MONAI for other tasks.
    """
    own, inherited, is_open = _parameters(network_class(spec))
    names = {**inherited, **own}
    _check_known(spec, names, is_open)
    if spec.is_monai and not OUTPUTS & names.keys():
        raise ConfigError(
            f"--network {spec.target}", "has no argument for the number of classes", "give a network for segmentation"
        )
    return own, inherited


def has_fixed_size(spec: NetworkSpec) -> bool:
    """Return whether the class of a network takes the shape of its input, so that it accepts one shape only."""
    own, inherited, _ = _parameters(network_class(spec))
    return bool(SIZES & {*own, *inherited})


def levels_at_full_resolution(plan: Plan) -> Levels:
    """Return the levels of a plan's U-Net with its stem as the first level.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> plan = SimpleNamespace(stem=(2, 2, 2), strides=((2, 2, 1),), channels=(16, 32))
    >>> levels_at_full_resolution(plan)
    Levels(features=(16, 32, 64), strides=((2, 2, 2), (2, 2, 1)))
    """
    if plan.stem == (1, 1, 1):
        return Levels(tuple(plan.channels), tuple(plan.strides))
    return Levels((*plan.channels, 2 * plan.channels[-1]), (plan.stem, *plan.strides))


def _for_every_network(plan: Plan, in_channels: int, classes: int) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(DIMENSIONS, 3)
    values |= dict.fromkeys(INPUTS, in_channels)
    values |= dict.fromkeys(OUTPUTS, classes)
    values |= {name: list(plan.patch) for name in SIZES}
    # No constructor may download weights.
    return values | {"in_shape": [in_channels, *plan.patch], "pretrained": False}


def _for_u_nets(spec: NetworkSpec, plan: Plan, names: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return required arguments of U-Nets and of registration networks, with as many levels as the user gave."""
    # DynUNet, AutoEncoder and nnU-Net's networks count the stride of the first level, which is 1.
    first: list[Any] = [1] if {"upsample_kernel_size", "inter_channels", "n_stages"} & names.keys() else []
    levels = _with_count(levels_at_full_resolution(plan), _level_count(spec, len(first)))
    strides = [list(stride) for stride in levels.strides]
    values: dict[str, Any] = {"num_channel_initial": levels.features[0], "depth": len(strides), "backbone": "resnet18"}
    values["extract_levels"] = list(range(len(strides) + 1))
    values |= {"n_stages": len(levels.features), "features_per_stage": nnunet_features(len(levels.features))}
    if "strides" in names:
        values |= {"channels": list(levels.features), "strides": first + strides}
    if "upsample_kernel_size" in names:
        values |= {"kernel_size": [3] * len(levels.features), "filters": list(levels.features)}
        values["upsample_kernel_size"] = strides
        if isinstance(given := spec.arguments.get("strides"), list):
            values["upsample_kernel_size"] = given[1:]
    return values


def _level_count(spec: NetworkSpec, first: int) -> int | None:
    """Return the number of levels that the user's own arguments have, or None."""
    for name in ("channels", "filters", "features_per_stage", "strides", "kernel_size"):
        if isinstance(given := spec.arguments.get(name), list):
            return len(given) + (1 - first if name == "strides" else 0)
    return None


def _with_count(levels: Levels, count: int | None) -> Levels:
    """Return the first `count` levels; further ones have twice the features and half the resolution."""
    if count is None or count < 1:
        return levels
    features, strides = list(levels.features[:count]), list(levels.strides[: count - 1])
    while len(features) < count:
        features.append(2 * features[-1])
    return Levels(tuple(features), tuple(strides + [(2, 2, 2)] * (count - 1 - len(strides))))


def _parameters(
    network: type[nn.Module],
) -> tuple[dict[str, inspect.Parameter], dict[str, inspect.Parameter], bool]:
    """Return the parameters of a constructor, those of its base classes that it passes on, and whether it takes any."""
    own: dict[str, inspect.Parameter] = {}
    inherited: dict[str, inspect.Parameter] = {}
    is_open = False
    for one in network.__mro__:
        if one is nn.Module:
            break
        if "__init__" not in vars(one):
            continue
        target = inherited if is_open else own
        is_open = False
        for name, parameter in list(inspect.signature(one.__init__).parameters.items())[1:]:  # type: ignore[misc]
            if parameter.kind is parameter.VAR_KEYWORD:
                is_open = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and name not in own:
                target.setdefault(name, parameter)
        if not is_open:
            break
    return own, inherited, is_open


def _check_known(spec: NetworkSpec, names: Mapping[str, inspect.Parameter], is_open: bool) -> None:
    unknown = [] if is_open else [name for name in spec.arguments if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1)
        raise ConfigError(
            f"--network {spec.text}",
            f"{spec.name} has no argument {unknown[0]}",
            f"did you mean {close[0]}?" if close else f"give one of {', '.join(names)}",
        )
