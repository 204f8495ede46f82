"""The grammar of losses: ``dice``, ``weighted_ce{policy=inverse,cap=100}``, ``my.module:MyLoss{gamma=2}``."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.losses.catalogue import CATALOGUE
from pipeline.system.call_grammar import CallGrammar, argument_text, call_text

Arguments = Mapping[str, Any]
"""Arguments of a loss by name, with values as YAML reads them."""

GRAMMAR = CallGrammar("--losses", "a loss", "tversky{alpha=0.3}")


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One arm of a study: a loss with its arguments.

    Attributes
    ----------
    name
        A name of the catalogue, or an import path ``package.module:Class``.
    arguments
        Arguments of the loss.
    label
        Name of the arm in tables and folders; by default it is made of name and arguments.
    control
        True if the arm repeats another one with its own random streams, to measure how much two trainings of one loss
        differ.

    Examples
    --------
    >>> from pipeline.losses import LossSpec
    >>> spec = LossSpec("tversky", {"alpha": 0.2, "beta": 0.8})
    >>> spec.label, spec.text
    ('tversky-alpha=0.2-beta=0.8', 'tversky{alpha=0.2,beta=0.8}')
    """

    name: str
    arguments: Arguments = field(default_factory=dict)
    label: str = ""
    control: bool = False

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", _label(self.name, self.arguments))

    @property
    def is_custom(self) -> bool:
        """True if the loss is a user's class, named by its import path."""
        return ":" in self.name

    def as_control(self) -> "LossSpec":
        """Return the same loss as a control arm, labeled e.g. ``dice-aa``."""
        return LossSpec(self.name, self.arguments, f"{self.label}-aa", control=True)

    @property
    def text(self) -> str:
        """The text that `parse_losses` reads as this loss."""
        return call_text(self.name, self.arguments)


def parse_losses(text: str) -> tuple[LossSpec, ...]:
    """Return the losses that a comma-separated text or a YAML file names.

    Parameters
    ----------
    text
        Losses, e.g. ``ce,tversky{alpha=0.2}``, or the path of a file that ends in .yaml or .yml. The file holds a list
        whose items are such texts, or mappings with ``name`` and optionally ``args`` and ``label``.

    Raises
    ------
    ConfigError
        If a name is unknown, the text is malformed, no loss is named, or two losses have one label.

    Examples
    --------
    >>> from pipeline.losses import parse_losses
    >>> [spec.label for spec in parse_losses("dice,weighted_ce{policy=inverse,cap=100}")]
    ['dice', 'weighted_ce-policy=inverse-cap=100']
    """
    path = Path(text)
    specs = _from_yaml(path) if path.suffix in (".yaml", ".yml") else [_parse_one(item) for item in GRAMMAR.split(text)]
    if not specs:
        raise ConfigError(f"--losses {text!r}", "names no loss", "see `whichloss losses`")
    for label, count in Counter(spec.label for spec in specs).items():
        if count > 1:
            raise ConfigError(
                f"--losses {text}", f"names {label} {count} times", "name each loss once, or give labels in a YAML file"
            )
    return tuple(specs)


def _parse_one(text: str) -> LossSpec:
    name, arguments = GRAMMAR.parse(text)
    return _known_loss(name, arguments, "")


def _from_yaml(path: Path) -> list[LossSpec]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(
            path, f"could not be read as YAML ({reason})", "write a list of losses, one per line, e.g. '- dice'"
        ) from error
    if not isinstance(content, list):
        raise ConfigError(path, "must hold a list of losses", "write one loss per line, e.g. '- dice'")
    specs = []
    for item in content:
        if isinstance(item, str):
            specs.append(_parse_one(item))
        elif isinstance(item, Mapping) and "name" in item and set(item) <= {"name", "args", "label"}:
            specs.append(_known_loss(str(item["name"]), dict(item.get("args") or {}), str(item.get("label") or "")))
        else:
            raise ConfigError(
                path,
                f"has the item {item!r}, which does not name a loss",
                "write a name, or a mapping of name, args and label",
            )
    return specs


def _known_loss(name: str, arguments: Arguments, label: str) -> LossSpec:
    if ":" not in name and name not in CATALOGUE:
        close = difflib.get_close_matches(name, CATALOGUE, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ConfigError(f"--losses {name}", "is an unknown loss", f"{hint}see `whichloss losses`")
    return LossSpec(name, arguments, _safe(label) if label else "")


def _label(name: str, arguments: Arguments) -> str:
    parts = [name.rpartition(":")[2], *(f"{key}={argument_text(value)}" for key, value in arguments.items())]
    return _safe("-".join(parts))


def _safe(text: str) -> str:
    """Return the text with underscores for characters that a folder's name should not contain."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", text).strip("._") or "loss"
