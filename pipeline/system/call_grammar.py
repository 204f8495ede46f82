"""The grammar in which options name a thing with arguments: ``dice{batch=true}``, ``my.module:MyLoss{gamma=2}``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.errors import ConfigError

_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*)?"

_DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1}


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """The grammar of one option; the attributes are the words of its errors.

    Attributes
    ----------
    option
        Option of the command line, e.g. ``--losses``.
    thing
        Kind of thing that the option names, e.g. "a loss".
    example
        A valid text with an argument.

    Examples
    --------
    >>> from pipeline.system.call_grammar import CallGrammar
    >>> grammar = CallGrammar("--losses", "a loss", "tversky{alpha=0.3}")
    >>> grammar.split("ce, tversky{alpha=0.2,beta=0.8}")
    ['ce', 'tversky{alpha=0.2,beta=0.8}']
    >>> grammar.parse("tversky{alpha=0.2,beta=0.8}")
    ('tversky', {'alpha': 0.2, 'beta': 0.8})
    """

    option: str
    thing: str
    example: str

    def split(self, text: str) -> list[str]:
        """Split at commas outside of braces, brackets and quotes; empty items are left out.

        Raises
        ------
        ConfigError
            If braces, brackets or quotes do not match.
        """
        items, depth, quote = [""], 0, ""
        for character in text:
            if quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
            else:
                depth += _DEPTH.get(character, 0)
            if depth < 0:
                break
            if character == "," and depth == 0 and not quote:
                items.append("")
            else:
                items[-1] += character
        if depth != 0 or quote:
            raise ConfigError(
                f"{self.option} {text}", "has unmatched braces, brackets or quotes", f"write e.g. {self.example}"
            )
        return [item.strip() for item in items if item.strip()]

    def parse(self, text: str) -> tuple[str, dict[str, Any]]:
        """Return the name in a text, and its arguments with values as YAML reads them.

        Raises
        ------
        ConfigError
            If the text is malformed.
        """
        match = re.fullmatch(rf"({_NAME})\s*(?:\{{(.*)\}})?", text.strip(), re.DOTALL)
        if not match:
            raise ConfigError(
                f"{self.option} {text}",
                f"must be the name of {self.thing} with optional arguments",
                "write name{argument=value} or module:Class{argument=value}",
            )
        arguments = {}
        for item in self.split(match[2] or ""):
            key, separator, value = item.partition("=")
            if not separator or not key.strip().isidentifier():
                raise ConfigError(
                    f"{self.option} {text}", f"has {item!r} where an argument must be", "write argument=value"
                )
            try:
                arguments[key.strip()] = read_value(value)
            except yaml.YAMLError:
                raise ConfigError(
                    f"{self.option} {text}",
                    f"has a value of {key.strip()} that is not YAML",
                    f"write e.g. {self.example}",
                ) from None
        return match[1], arguments


def read_value(text: str) -> Any:
    """Return a value as YAML reads it, and ``1e-5`` as a number, for which YAML 1.1 requires ``1.0e-5``."""
    value = yaml.safe_load(text)
    if isinstance(value, str) and not text.strip().startswith(("'", '"')):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the text that names a thing with arguments.

    Examples
    --------
    >>> from pipeline.system.call_grammar import call_text
    >>> call_text("sgd", {"momentum": 0.9, "nesterov": True})
    'sgd{momentum=0.9,nesterov=true}'
    """
    if not arguments:
        return name
    inner = ",".join(f"{key}={argument_text(value)}" for key, value in arguments.items())
    return f"{name}{{{inner}}}"


def argument_text(value: Any) -> str:
    """Return the value of an argument as the user would write it."""
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(argument_text, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
