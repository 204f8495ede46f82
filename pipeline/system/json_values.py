"""Conversion of the project's values to values that standard JSON knows."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from os import PathLike, fspath

import numpy as np

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def to_json_value(value: object) -> JsonValue:
    """Return a value as `json.dumps(..., allow_nan=False)` accepts it.

    Dataclasses and mappings become objects, lists, tuples and arrays become lists, numpy scalars become Python numbers,
    paths and enumerations become their text or number. NaN and infinities become null, since JSON has no such numbers.

    Raises
    ------
    TypeError
        For a value of any other type.

    Examples
    --------
    >>> from pathlib import Path
    >>> to_json_value({1: (np.float32(0.5), float("nan")), "file": Path("a.nii.gz")})
    {'1': [0.5, None], 'file': 'a.nii.gz'}
    """
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return to_json_value(value.item())
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_json_value(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def to_json_object(value: object) -> dict[str, JsonValue]:
    """Return a dataclass or mapping as a JSON object; see `to_json_value`.

    Raises
    ------
    TypeError
        For a value that is neither, or that holds a value of another type.
    """
    converted = to_json_value(value)
    if not isinstance(converted, dict):
        raise TypeError(f"{type(value).__name__} is not an object in JSON")
    return converted
