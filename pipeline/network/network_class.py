"""The class of a network that a user names, and its instances."""

import difflib
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline.errors import ConfigError
from pipeline.network.network_noise import seeded_generators
from pipeline.network.network_spec import NetworkSpec

META = torch.device("meta")
"""A device without memory, on which torch computes shapes but no values."""


TORCH_CLASS = "$torch.nn."
"""Prefix of an argument that is a class of torch."""


class SequencesOnCpu(TorchFunctionMode):
    """Create equal steps between two numbers on the CPU: constructors compute rates of dropout of them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "cpu"} if func is torch.linspace else {})})


def network_class(spec: NetworkSpec) -> type[nn.Module]:
    """Return the class of a network.

    Raises
    ------
    ConfigError
        If the module cannot be imported, or has no such class of type `torch.nn.Module`.
    """
    module_name = spec.target.rpartition(".")[0]
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"--network {spec.target}",
            f"{module_name} cannot be imported ({first_line(error)})",
            "give the name of a network of MONAI, or the import path package.module.Class",
        ) from error
    found = getattr(module, spec.name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if found is not None:
        raise ConfigError(
            f"--network {spec.target}", "is not a class of torch.nn.Module", "give the class of a network"
        )
    close = difflib.get_close_matches(spec.name, [name for name in vars(module) if name[:1].isupper()], n=2)
    raise ConfigError(
        f"--network {spec.target}",
        f"{module_name} has no {spec.name}",
        f"did you mean {' or '.join(close)}?" if close else "see the classes of monai.networks.nets",
    )


def create(spec: NetworkSpec, arguments: Mapping[str, Any]) -> nn.Module:
    """Return an instance with `arguments`, which are those of the spec and those that follow from the plan.

    A class of ``torch.nn`` is an argument of the form ``$torch.nn.Conv3d``, as in bundles of MONAI.

    Raises
    ------
    ConfigError
        If the constructor raises an error.
    """
    try:
        return network_class(spec)(**{name: _torch_class(value) for name, value in arguments.items()})
    except ConfigError:
        raise
    except Exception as error:  # the constructors of MONAI and of users raise anything
        stated = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise ConfigError(
            f"--network {spec.text}",
            f"cannot be built with {stated} ({first_line(error)})",
            f"give other arguments, e.g. {spec.name}{{{next(iter(arguments), 'argument')}=...}}",
        ) from error


def _torch_class(value: Any) -> Any:
    is_class = isinstance(value, str) and value.startswith(TORCH_CLASS)
    return getattr(nn, value.removeprefix(TORCH_CLASS)) if is_class else value


def create_on_meta(spec: NetworkSpec, arguments: Mapping[str, Any]) -> nn.Module:
    """Return an instance on the device ``meta``: it shows shapes, but has no values.

    Raises
    ------
    ConfigError
        If the constructor raises an error on the CPU too.
    """
    with warnings.catch_warnings(), seeded_generators(0):
        warnings.simplefilter("ignore")  # the network itself shows its warnings
        try:
            with META, SequencesOnCpu():
                return create(spec, arguments)
        except ConfigError:  # e.g. since the constructor reads values of other tensors
            return create(spec, arguments).to(META)


def first_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
