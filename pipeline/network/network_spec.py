"""The grammar of networks: ``SegResNet{init_filters=16}``, ``my.module:MyNet{depth=3}``; empty for the plan's own."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.system.call_grammar import CallGrammar, read_value
from pipeline.system.files import sha256_of_file

MONAI_NETWORKS = "monai.networks.nets"
"""Package of the networks that a bare name refers to."""

GRAMMAR = CallGrammar("--network", "a network", "SegResNet{init_filters=16}")


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
        name, arguments = GRAMMAR.parse(text)
        target = name.replace(":", ".")
        if "." not in target:
            target = f"{MONAI_NETWORKS}.{target}"
        return cls(target, arguments, weights)

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
        return f"{self.target}{self._arguments_text}"

    @property
    def label(self) -> str:
        """The text without the module of the class, for display."""
        return f"{self.name}{self._arguments_text}"

    @property
    def definition(self) -> str:
        """The text and, for pretrained weights, the SHA-256 of their file."""
        return self.text if self.weights is None else f"{self.text} with weights {sha256_of_file(self.weights)}"

    @property
    def _arguments_text(self) -> str:
        if not self.arguments:
            return ""
        return "{" + ",".join(f"{name}={_value_text(value)}" for name, value in self.arguments.items()) + "}"


def _value_text(value: Any) -> str:
    """Return a value as the user would write it."""
    if isinstance(value, list):
        return "[" + ",".join(map(_value_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {_value_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and read_value(value) == value:
        return value
    return json.dumps(value)


def _as_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, as YAML and JSON read it."""
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _as_lists(item) for name, item in value.items()}
    return value
