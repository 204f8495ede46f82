"""Checks of a bundle's JSON files, before MONAI's parser sees any of them.

MONAI's parser imports what ``_target_`` names, evaluates strings that begin with ``$`` and reads the files that ``%``
names; some arguments import modules or copy files. The configurations are therefore not judged part by part: they are
computed again from the checked specification (`pipeline.bundle.configurations`) and must be equal to the result.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from pipeline.bundle.template import Config

MAXIMUM_DEPTH = 24
SEPARATOR = "::"

TUNABLE: dict[str, tuple[type, float, float]] = {
    "seed": (int, 0, 2**32 - 1),
    "fold": (int, 0, 999),
    "folds": (int, 2, 1000),
    "learning_rate": (float, 0, 10),
    "val_interval": (int, 1, 10**6),
    "batch_size": (int, 1, 1024),
    "patches_per_case": (int, 1, 1024),
    "cache_rate": (float, 0, 1),
    "num_workers": (int, 0, 64),
    "train::trainer::max_epochs": (int, 1, 10**6),
}
"""Numbers of the training and evaluation configurations that a user may change: type, lowest and highest value."""

_METADATA_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.=/-]{0,99}")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Refused(Exception):
    """A key of a JSON file that is not allowed, with the reason.

    Parameters
    ----------
    key
        Path of the key, with parts separated by ``::``; empty for the file as a whole.
    problem
        What is wrong with it.
    is_code
        Whether the refused content would be executed by MONAI, so that only trust could admit it.
    """

    def __init__(self, key: str, problem: str, *, is_code: bool = False) -> None:
        self.key, self.problem, self.is_code = key, problem, is_code
        super().__init__(f"{key or 'the file'}: {problem}")


def parse_json(data: bytes) -> Any:
    """Return JSON of limited depth, with unique keys and finite numbers.

    Raises
    ------
    Refused
        Otherwise.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise Refused(name, "occurs twice in one object")
            found[name] = value
        return found

    def constant(text: str) -> float:
        raise Refused("", f"contains {text}, which is not JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused("", f"cannot be read as JSON ({str(error).splitlines()[0]})") from None
    _check_depth(value, "", 0)
    return value


def check_configuration(found: Any, expected: Config) -> None:
    """Compare a configuration with the one computed from the specification.

    Numbers listed in `TUNABLE` may differ within their ranges, as far as `expected` has them as numbers.

    Raises
    ------
    Refused
        Naming the first key that differs.
    """
    _check_equal(found, _with_tunables(expected, found), "")


def check_metadata(metadata: Any) -> None:
    """Refuse metadata that MONAI's parser would not treat as plain text and numbers, and hidden characters.

    MONAI evaluates ``$``, ``%``, ``@`` and ``_target_`` in ``metadata.json`` too, when a program asks for one of its
    entries.

    Raises
    ------
    Refused
        Naming the first such key.
    """
    if not isinstance(metadata, dict):
        raise Refused("", "is not an object")
    _check_plain(metadata, "")


def _with_tunables(expected: Config, found: Any) -> Config:
    """Return `expected` with the tunable numbers of `found` that are within their ranges."""
    changed = json.loads(json.dumps(expected))
    for path, (kind, low, high) in TUNABLE.items():
        *parents, last = path.split(SEPARATOR)
        target, source = changed, found
        for name in parents:
            target = target.get(name) if isinstance(target, dict) else None
            source = source.get(name) if isinstance(source, dict) else None
        if not isinstance(target, dict) or not isinstance(source, dict) or not _is_number(target.get(last)):
            continue
        value = source.get(last)
        if _is_number(value) and (kind is float or isinstance(value, int)) and low <= value <= high:
            target[last] = value
    return dict(changed)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_equal(found: Any, expected: Any, path: str) -> None:
    if isinstance(expected, dict):
        _check_same_object(found, expected, path)
    elif isinstance(expected, list):
        _check_same_list(found, expected, path)
    elif found != expected or isinstance(found, bool) != isinstance(expected, bool):
        raise _different(found, expected, path)


def _check_same_object(found: Any, expected: Mapping[str, Any], path: str) -> None:
    if not isinstance(found, dict):
        raise _different(found, expected, path)
    # The target first: it says best what a foreign object is.
    for name in sorted(expected, key=lambda name: name != "_target_"):
        key = _joined(path, name)
        if name not in found:
            raise Refused(key, "is missing")
        if name == "_target_":
            _check_equal(found[name], expected[name], key)
    for name in found:
        if name not in expected:
            raise _surplus(found[name], _joined(path, name))
    for name in expected:
        _check_equal(found[name], expected[name], _joined(path, name))


def _check_same_list(found: Any, expected: list[Any], path: str) -> None:
    if not isinstance(found, list):
        raise _different(found, expected, path)
    for index, (one, other) in enumerate(zip(found, expected, strict=False)):
        _check_equal(one, other, _joined(path, index))
    if len(found) > len(expected):
        raise _surplus(found[len(expected)], _joined(path, len(expected)))
    if len(found) < len(expected):
        raise Refused(path, f"has {len(found)} entries instead of {len(expected)}")


def _different(found: Any, expected: Any, path: str) -> Refused:
    is_code = _active_key(found, path) is not None
    return Refused(path, f"is {_shown(found)}; `segloss export` writes {_shown(expected)}", is_code=is_code)


def _surplus(found: Any, path: str) -> Refused:
    active = _active_key(found, path)
    problem = f"is not written by `segloss export` ({_shown(found)})"
    return Refused(active or path, problem, is_code=active is not None)


def _active_key(value: Any, path: str) -> str | None:
    """Return the key of the first part that MONAI would execute or read from elsewhere, None where there is none."""
    if isinstance(value, dict):
        if "_target_" in value:
            return _joined(path, "_target_")
        parts: Any = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return path if isinstance(value, str) and value.startswith(("$", "%")) else None
    return next((key for name, item in parts if (key := _active_key(item, _joined(path, name))) is not None), None)


def _check_plain(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not _METADATA_KEY.fullmatch(name):
                raise Refused(_joined(path, name), "is not a plain key", is_code=name.startswith("_"))
            _check_plain(item, _joined(path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, _joined(path, index))
    elif isinstance(value, str):
        if value.startswith(("$", "%", "@")):
            raise Refused(path, f"begins with {value[0]}, which MONAI would evaluate", is_code=value[0] != "@")
        strict = path.startswith(f"segloss{SEPARATOR}")
        if _CONTROL.search(value) or (strict and re.search(r"[\t\n]", value)):
            raise Refused(path, "contains control characters")


def _check_depth(value: Any, path: str, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise Refused(path[:80], f"is nested more than {MAXIMUM_DEPTH} levels deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_depth(item, _joined(path, name), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_depth(item, _joined(path, index), depth + 1)


def _joined(path: str, name: object) -> str:
    """Return a path with one more part; names from hostile files are shortened and shown without control characters."""
    text = str(name)[:100]
    text = text if text.isprintable() else ascii(text)
    return f"{path}{SEPARATOR}{text}" if path else text


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
