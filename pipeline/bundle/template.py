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
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
Config = dict[str, Any]
"""An object of JSON whose keys are known to its reader only, such as a configuration of MONAI."""

_MARK = re.compile(r"<(?P<kind>\*|if |if not |)(?P<name>[a-z_]+)>")


def fill_template(name: str, values: Mapping[str, Any] | None = None) -> Config:
    """Return the content of ``templates/NAME.json`` with `values` in place of the marks.

    Parameters
    ----------
    name
        Name of the file without its suffix.
    values
        JSON by name of the mark; tuples become lists.

    Raises
    ------
    KeyError
        If the template has a mark without a value.
    """
    return dict(fill(json.loads(_text(name)), values or {}))


def fill(part: Any, values: Mapping[str, Any]) -> Any:
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
    return _listed(values[mark["name"]]) if mark else part


def _entries(template: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the filled entries of an object."""
    for key, part in template.items():
        mark = _MARK.fullmatch(key)
        if mark is None:
            yield key, fill(part, values)
        elif mark["kind"] == "*":
            yield from _listed(values[mark["name"]]).items()
        elif _is_inserted(mark, values):
            yield from _entries(part, values)


def _items(template: Any, values: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the filled items that one item of a list stands for."""
    text = next(iter(template), None) if isinstance(template, dict) else template
    mark = _MARK.fullmatch(text) if isinstance(text, str) else None
    if mark is None or (mark["kind"] == "" and isinstance(template, str)):
        yield fill(template, values)
    elif mark["kind"] == "*":
        yield from _listed(values[mark["name"]])
    elif _is_inserted(mark, values):
        yield fill(template[mark[0]], values)


def _is_inserted(mark: re.Match[str], values: Mapping[str, Any]) -> bool:
    if mark["kind"] == "":
        return False  # a note
    return bool(values[mark["name"]]) == (mark["kind"] == "if ")


def _listed(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON would have it."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def _text(name: str) -> str:
    return files("pipeline.bundle").joinpath("templates", f"{name}.json").read_text(encoding="utf-8")
