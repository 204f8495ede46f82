"""The grammar of networks: ``SegResNet{init_filters=16}``, ``my.module:MyNet{depth=3}``; empty for the plan's own."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

MONAI_NETWORKS = "monai.networks.nets"
"""Package of the networks that a bare name refers to."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network by its class and arguments.

    Attributes
    ----------
    target
        Import path ``package.module.Class``; empty for the network of the plan (`pipeline.network.architecture`).
    arguments
        Arguments of the class that the user gave, as YAML reads them. The others follow from the plan and from the
        dataset.
    weights
        File of pretrained weights; None for weights that are drawn from the seed.

    Examples
    --------
    >>> from pipeline.network.network_spec import NetworkSpec
    >>> spec = NetworkSpec.parse("SegResNet{init_filters=16,blocks_down=[1,2,2]}")
    >>> spec.target, spec.name
    ('monai.networks.nets.SegResNet', 'SegResNet')
    >>> spec.text
    'monai.networks.nets.SegResNet{init_filters=16,blocks_down=[1,2,2]}'
    """

    target: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", {name: _as_lists(value) for name, value in self.arguments.items()})

    @classmethod
    def parse(cls, text: str, weights: Path | None = None) -> "NetworkSpec":
        """Return the network that a text names.

        Parameters
        ----------
        text
            ``package.module.Class{argument=value,...}`` or ``package.module:Class{...}``; a name without a module is a
            network of MONAI. Values are written as in YAML. An empty text is the plan's own network.
        weights
            File of pretrained weights.

        Raises
        ------
        ConfigError
            If the text is malformed. The class is imported when the network is built, not here.
        """
        if not text.strip():
            return cls("", {}, weights)
        match = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*)?)\s*(?:\{(.*)\})?", text.strip(), re.S)
        if not match:
            raise ConfigError(
                f"--network {text}",
                "must be the name of a network with optional arguments",
                "write Name{argument=value} or package.module.Class{argument=value}",
            )
        target = match[1].replace(":", ".")
        if "." not in target:
            target = f"{MONAI_NETWORKS}.{target}"
        return cls(target, _arguments(match[2] or "", text), weights)

    @property
    def is_default(self) -> bool:
        """True for the network of the plan."""
        return not self.target

    @property
    def is_monai(self) -> bool:
        """True for a class of ``monai.networks.nets``."""
        return self.target.rpartition(".")[0] == MONAI_NETWORKS

    @property
    def name(self) -> str:
        """Name of the class; empty for the network of the plan."""
        return self.target.rpartition(".")[2]

    @property
    def text(self) -> str:
        """The text that `parse` reads as this network, without its weights."""
        if not self.arguments:
            return self.target
        inner = ",".join(f"{name}={_value_text(value)}" for name, value in self.arguments.items())
        return f"{self.target}{{{inner}}}"


def _arguments(inner: str, text: str) -> dict[str, Any]:
    arguments = {}
    for item in _split(inner, text):
        name, separator, value = item.partition("=")
        if not separator or not name.strip().isidentifier():
            raise ConfigError(f"--network {text}", f"has {item!r} where an argument must be", "write argument=value")
        try:
            arguments[name.strip()] = _value(value)
        except yaml.YAMLError:
            raise ConfigError(
                f"--network {text}", f"has a value of {name.strip()} that is not YAML", "write e.g. act=[relu, {}]"
            ) from None
    return arguments


def _split(inner: str, text: str) -> list[str]:
    """Split at commas outside of braces, brackets and quotes."""
    items, depth, quote = [""], 0, ""
    for character in inner:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        if depth < 0:
            break
        if character == "," and depth == 0 and not quote:
            items.append("")
        else:
            items[-1] += character
    if depth or quote:
        raise ConfigError(
            f"--network {text}", "has unmatched braces, brackets or quotes", "write e.g. SegResNet{init_filters=16}"
        )
    return [item.strip() for item in items if item.strip()]


def _value(text: str) -> Any:
    """Return a value as YAML reads it, and ``1e-5`` as a number, for which YAML 1.1 requires ``1.0e-5``."""
    value = yaml.safe_load(text)
    if isinstance(value, str) and not text.strip().startswith(("'", '"')):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _value_text(value: Any) -> str:
    """Return a value as the user would write it."""
    if isinstance(value, list):
        return "[" + ",".join(map(_value_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {_value_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and _value(value) == value:
        return value
    return json.dumps(value)


def _as_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, as YAML and JSON read it."""
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _as_lists(item) for name, item in value.items()}
    return value
