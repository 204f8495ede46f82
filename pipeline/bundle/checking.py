"""Checks of a bundle's JSON files, before MONAI's parser sees any of them.

MONAI's parser imports what ``_target_`` names, evaluates strings that begin with ``$`` and reads the files that ``%``
names; some arguments import modules or copy files. The configurations are therefore not judged part by part: they are
computed again from the checked specification (`pipeline.bundle.configurations`) and must be equal to the result.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from pipeline.bundle.template import Config, Json

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
"""Numbers of the training and evaluation configurations that a user may change: type, minimum and maximum."""

# Keys of MONAI's metadata, without the characters that its parser interprets: # and :: separate the parts of a key.
_METADATA_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.=/-]{0,99}")
# Unlike HIDDEN_CHARACTERS of strict_model, tab and line feed may occur: descriptions have several lines.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Refused(Exception):
    """A key of a JSON file that is not allowed, with the reason.

    Parameters
    ----------
    key
        Path of the key, with parts separated by ``::``; empty for the file as a whole.
    problem
        Problem of the refused content.
    is_code
        True if the refused content would be executed by MONAI, so that only trust could admit it.
    """

    def __init__(self, key: str, problem: str, *, is_code: bool = False) -> None:
        self.key, self.problem, self.is_code = key, problem, is_code
        super().__init__(f"{key or 'the file'}: {problem}")


def parse_json(data: bytes) -> Json:
    """Return the value of a JSON text in UTF-8.

    Examples
    --------
    >>> parse_json(b'{"overlap": 0.25, "overlap": 0.5}')
    Traceback (most recent call last):
    pipeline.bundle.checking.Refused: overlap: occurs twice in one object

    Raises
    ------
    Refused
        If it is malformed, nested more than `MAXIMUM_DEPTH` levels deep, or has a key twice in one object, NaN or an
        infinity. Parsers disagree on these, so that a check could see another value than MONAI.
    """

    def refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        entries: dict[str, Json] = {}
        for name, value in pairs:
            if name in entries:
                raise Refused(name, "occurs twice in one object")
            entries[name] = value
        return entries

    def refuse_constant(text: str) -> float:
        raise Refused("", f"contains {text}, which is not JSON")

    try:
        value: Json = json.loads(
            data.decode("utf-8"), object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise Refused("", f"could not be read as JSON ({str(error).splitlines()[0]})") from None
    _check_depth(value, "", 0)
    return value


def check_configuration(found: Json, expected: Config) -> None:
    """Compare a configuration with the one computed from the specification.

    Numbers listed in `TUNABLE` may differ within their ranges, if they are numbers in `expected`.

    Raises
    ------
    Refused
        Naming the first key that differs.
    """
    _check_equal(found, _with_tunables(expected, found), "")


def check_metadata(metadata: Json) -> None:
    """Check that metadata holds only texts and numbers that MONAI's parser does not interpret.

    MONAI evaluates ``$``, ``%``, ``@`` and ``_target_`` in ``metadata.json`` too, when a program reads one of its
    entries. Hidden characters are refused as well.

    Raises
    ------
    Refused
        Naming the first such key.
    """
    if not isinstance(metadata, dict):
        raise Refused("", "is not an object")
    _check_inert(metadata, "")


def _with_tunables(expected: Config, found: Json) -> Config:
    """Return `expected` with the tunable numbers of `found` that are within their ranges."""
    changed: Config = json.loads(json.dumps(expected))
    for path, (kind, low, high) in TUNABLE.items():
        *parents, last = path.split(SEPARATOR)
        target: object = changed
        source: object = found
        for name in parents:
            target = target.get(name) if isinstance(target, dict) else None
            source = source.get(name) if isinstance(source, dict) else None
        if not isinstance(target, dict) or not isinstance(source, dict) or not _is_number(target.get(last)):
            continue
        value = source.get(last)
        if _is_number(value) and (kind is float or isinstance(value, int)) and low <= value <= high:
            target[last] = value
    return changed


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_equal(found: Json, expected: Json, path: str) -> None:
    if isinstance(expected, dict):
        _check_same_object(found, expected, path)
    elif isinstance(expected, list):
        _check_same_list(found, expected, path)
    elif found != expected or isinstance(found, bool) != isinstance(expected, bool):
        raise _different(found, expected, path)


def _check_same_object(found: Json, expected: Mapping[str, Json], path: str) -> None:
    if not isinstance(found, dict):
        raise _different(found, expected, path)
    # The target first: it is the most telling difference of a foreign object.
    for name in sorted(expected, key=lambda name: name != "_target_"):
        key = _joined(path, name)
        if name not in found:
            raise Refused(key, "is missing")
        if name == "_target_":
            _check_equal(found[name], expected[name], key)
    for name in found:
        if name not in expected:
            raise _additional(found[name], _joined(path, name))
    for name in expected:
        _check_equal(found[name], expected[name], _joined(path, name))


def _check_same_list(found: Json, expected: Sequence[Json], path: str) -> None:
    if not isinstance(found, list):
        raise _different(found, expected, path)
    for index, (one, other) in enumerate(zip(found, expected, strict=False)):
        _check_equal(one, other, _joined(path, index))
    if len(found) > len(expected):
        raise _additional(found[len(expected)], _joined(path, len(expected)))
    if len(found) < len(expected):
        raise Refused(path, f"has {len(found)} entries instead of {len(expected)}")


def _different(found: Json, expected: Json, path: str) -> Refused:
    is_code = _active_key(found, path) is not None
    return Refused(path, f"is {_shown(found)}; `whichloss export` writes {_shown(expected)}", is_code=is_code)


def _additional(found: Json, path: str) -> Refused:
    active = _active_key(found, path)
    problem = f"is not written by `whichloss export` ({_shown(found)})"
    return Refused(active or path, problem, is_code=active is not None)


def _active_key(value: Json, path: str) -> str | None:
    """Return the key of the first part that MONAI would execute or read from another file; None if there is none."""
    if isinstance(value, dict):
        if "_target_" in value:
            return _joined(path, "_target_")
        parts: Iterable[tuple[object, Json]] = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return path if isinstance(value, str) and value.startswith(("$", "%")) else None
    return next((key for name, item in parts if (key := _active_key(item, _joined(path, name))) is not None), None)


def _check_inert(value: Json, path: str) -> None:
    """Refuse a part of the metadata that MONAI would interpret, or that has hidden characters."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not _METADATA_KEY.fullmatch(name):
                raise Refused(_joined(path, name), "is not an allowed key", is_code=name.startswith("_"))
            _check_inert(item, _joined(path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_inert(item, _joined(path, index))
    elif isinstance(value, str):
        if value.startswith(("$", "%", "@")):
            raise Refused(path, f"begins with {value[0]}, which MONAI would evaluate", is_code=value[0] != "@")
        is_one_line = path.startswith(f"segloss{SEPARATOR}")
        if _CONTROL.search(value) or (is_one_line and re.search(r"[\t\n]", value)):
            raise Refused(path, "contains control characters")


def _check_depth(value: Json, path: str, depth: int) -> None:
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


def _shown(value: Json) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
