"""Pretrained weights of a network, read without executing code."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.network_class import create_on_meta, first_line
from pipeline.network.network_spec import NetworkSpec

CONTAINERS = ("state_dict", "network", "model")
"""Keys under which trainers store the weights."""

PREFIX = "module."
"""Prefix of the names that wrappers for several GPUs and for averages of weights leave."""


def load_pretrained(network: nn.Module, path: Path, replaceable: Collection[str] = ()) -> tuple[str, ...]:
    """Load weights into a network and return the names of its tensors that keep their initial values.

    Parameters
    ----------
    network
        The network; it is changed in place.
    path
        File of `torch.save` or of safetensors. It holds the tensors by name, or a dictionary of them under one of
        `CONTAINERS`.
    replaceable
        Names of tensors that the file may lack or have in another shape: those of the last layer.

    Raises
    ------
    ConfigError
        If the file cannot be read, or if another tensor of the network is missing or has another shape.
    """
    loaded = _without_prefix(read_weights(path), network.state_dict())
    problems = []
    kept = []
    for name, tensor in network.state_dict().items():
        found = loaded.get(name)
        if found is not None and found.shape == tensor.shape:
            continue
        kept.append(name)
        if name not in replaceable:
            shape = "is missing" if found is None else f"is {_shape(found)} and not {_shape(tensor)}"
            problems.append(f"{name} {shape}")
    if problems:
        others = f" and {len(problems) - 1} further tensors do not match" if len(problems) > 1 else ""
        raise ConfigError(
            path, f"does not match the network: {problems[0]}{others}", "give weights of this network and arguments"
        )
    if len(kept) == len(network.state_dict()):
        raise ConfigError(path, "has no weights of this network", "give weights of this network and arguments")
    ready = {name: loaded[name] for name in network.state_dict() if name not in kept}
    network.load_state_dict(ready, strict=False)
    return tuple(kept)


def depends_on_classes(spec: NetworkSpec, arguments: Mapping[str, Any], other: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of tensors whose shape differs between two numbers of classes: those of the last layer.

    Parameters
    ----------
    spec
        The network.
    arguments, other
        All arguments of its class, for two numbers of classes.
    """
    if arguments == other:
        return frozenset()
    shapes, others = ({n: t.shape for n, t in create_on_meta(spec, a).state_dict().items()} for a in (arguments, other))
    return frozenset(name for name in shapes if shapes[name] != others.get(name))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, without executing code.

    Raises
    ------
    ConfigError
        If the file does not exist, or is none of `torch.save` with tensors only or of safetensors.
    """
    remedy = "give a file of torch.save with tensors only, or of safetensors"
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(path, "does not exist", "give a file of weights") from None
    except pickle.UnpicklingError as error:
        raise ConfigError(path, "holds more than tensors, which could execute code", remedy) from error
    except Exception as error:  # both readers raise various errors on damaged files
        raise ConfigError(path, f"could not be read as weights ({first_line(error)})", remedy) from error
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise ConfigError(path, f"holds a {type(content).__name__}, not tensors by name", remedy)
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}


def _without_prefix(loaded: Mapping[str, torch.Tensor], own: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the tensors without `PREFIX`, unless the network's own names have it."""
    if any(name.startswith(PREFIX) for name in own):
        return dict(loaded)
    return {name.removeprefix(PREFIX): tensor for name, tensor in loaded.items()}


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
