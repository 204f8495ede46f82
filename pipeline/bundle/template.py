"""JSON templates of the files of a bundle, and the function that fills in their values.

A template, ``templates/NAME.json``, is the JSON of an exported file with marks in place of everything that varies:

====================  ==============================================================================================
mark                  meaning
====================  ==============================================================================================
``"<name>"``          the value `name`
``"<*name>"``         as an item of a list, the items of the list `name`; as a key, the entries of the object `name`
``"<if name>"``       a key: its content is inserted if the value `name` is true, not empty and not zero
``"<if not name>"``   a key: its content is inserted otherwise
``"<note>"``          a key: its text explains the template and is left out
====================  ==============================================================================================

In a list, ``{"<if name>": ITEM}`` stands for one item and ``{"<note>": TEXT}`` for none. Inserted values are not
searched for marks, so that a text of a dataset cannot refer to a value.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that JSON can hold; tuples are written as lists."""

Config = dict[str, Any]
"""An object of JSON whose keys only its reader knows, such as a configuration of MONAI."""

_MARK = re.compile(r"<(?P<kind>\*|if |if not |)(?P<name>[a-z0-9_]+)>")


def fill_template(name: str, values: Mapping[str, Json] | None = None) -> Config:
    """Return the content of ``templates/NAME.json`` with `values` in place of the marks.

    Parameters
    ----------
    name
        Name of the file without its suffix.
    values
        Values by the name in the mark.

    Raises
    ------
    KeyError
        If the template has a mark without a value.
    """
    return dict(_entries(json.loads(_text(name)), values or {}))


def fill(part: Json, values: Mapping[str, Json]) -> Json:
    """Return a part of a template with `values` in place of its marks.

    Examples
    --------
    >>> part = {"size": "<size>", "<if smooth>": {"sigma": 2}, "steps": ["first", "<*others>"]}
    >>> fill(part, {"size": (8, 8), "smooth": False, "others": ["second", "third"]})
    {'size': [8, 8], 'steps': ['first', 'second', 'third']}
    """
    if isinstance(part, dict):
        return dict(_entries(part, values))
    if isinstance(part, list):
        return [filled for item in part for filled in _items(item, values)]
    mark = _MARK.fullmatch(part) if isinstance(part, str) else None
    return _as_json(values[mark["name"]]) if mark else part


def _entries(template: Mapping[str, Json], values: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Yield the filled entries of an object."""
    for key, part in template.items():
        mark = _MARK.fullmatch(key)
        if mark is None:
            yield key, fill(part, values)
        elif mark["kind"] == "*":
            yield from _as_json(values[mark["name"]]).items()
        elif _is_inserted(mark, values):
            assert isinstance(part, dict), f"{key} must hold an object"
            yield from _entries(part, values)


def _items(item: Json, values: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the filled items that one item of a list stands for."""
    text = next(iter(item), None) if isinstance(item, dict) else item
    mark = _MARK.fullmatch(text) if isinstance(text, str) else None
    if mark and isinstance(item, dict):
        if _is_inserted(mark, values):
            yield fill(item[mark[0]], values)
    elif mark and mark["kind"] == "*":
        yield from _as_json(values[mark["name"]])
    else:
        yield fill(item, values)


def _is_inserted(mark: re.Match[str], values: Mapping[str, Json]) -> bool:
    if mark["kind"] == "":  # a note
        return False
    return bool(values[mark["name"]]) == (mark["kind"] == "if ")


def _as_json(value: Json) -> Any:
    """Return a value as reading its JSON would give it: with lists in place of tuples."""
    return json.loads(json.dumps(value))


@cache
def _text(name: str) -> str:
    return files("pipeline.bundle").joinpath("templates", f"{name}.json").read_text(encoding="utf-8")
