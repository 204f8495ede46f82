"""Rules that select a series, in the syntax of MONAI Deploy's series selector.

A rule is `{"name": ..., "conditions": {KEYWORD: VALUE, ...}}`; all conditions must hold. What a condition requires
depends on the kind of value in the files:

- A text must be equal, ignoring case, or match a regular expression; it must not match `"!pattern"`.
- A number must be equal, lie within `[least, most]`, or compare as `[value, ">"]` (also `<`, `>=`, `<=`, `==`, `!=`).
  Of several numbers, as in `PixelSpacing`, each one must.
- A list of texts must contain all of the given texts and none of those after a `!`.
- `ImageOrientationPatient` is `Axial`, `Coronal` or `Sagittal`.
- `NumberOfSlices` counts slices (frames of a multi-frame file).
- `SpacingBetweenSlices` is the distance of slices by their positions.

A series without the attribute does not match.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema
from pydicom.datadict import dictionary_VR, tag_for_keyword

from pipeline.errors import ConfigError

SLICES = "NumberOfSlices"
PLANE = "ImageOrientationPatient"

HeaderValue: TypeAlias = "float | str | list[HeaderValue] | None"
"""A value of a header: a number, a text, a list of these; None if it is absent."""

Condition: TypeAlias = "float | str | Sequence[float | str]"
"""A checked condition: a number, a pattern, a range, a comparison, or a list of texts."""

RawRules: TypeAlias = "Sequence[Mapping[str, Any]] | Mapping[str, Any]"
"""Rules as read from JSON, before they are checked."""

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_PLANES = ("axial", "coronal", "sagittal")
_REPEATABLE = {"CS", "DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"}
"""Value representations of codes and numbers, which cannot name a patient and may be repeated in messages."""

_PATIENT_GROUP = 0x0010

MAXIMUM_CONDITIONS = 50
MAXIMUM_PATTERN = 500
MAXIMUM_TEXT = 10_240
"""Characters of an attribute that a pattern is compared with: the limit of DICOM's Long Text (LT)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its name, and its conditions by DICOM keyword."""

    name: str
    conditions: Mapping[str, Condition]


def parse_rules(rules: RawRules) -> list[Rule]:
    """Return checked rules; rules without conditions are dropped.

    Parameters
    ----------
    rules
        A list of `{"name", "conditions"}`, MONAI Deploy's whole object `{"selections": [...]}`, or bare conditions.

    Raises
    ------
    ConfigError
        For an unknown keyword, a malformed or unsupported regular expression, or a value of the wrong kind.

    Examples
    --------
    >>> parse_rules([{"name": "T1", "conditions": {"Modality": "MR", "SliceThickness": [1, 3]}}])
    [Rule(name='T1', conditions={'Modality': 'MR', 'SliceThickness': [1, 3]})]
    """
    selections: Any = rules.get("selections", [rules] if rules else []) if isinstance(rules, Mapping) else rules
    parsed = []
    for number, selection in enumerate(selections, start=1):
        if not isinstance(selection, Mapping):
            raise _wrong(f"rule {number}", f"is {selection!r}", 'write {"name": ..., "conditions": {...}}')
        conditions = selection.get("conditions", {key: value for key, value in selection.items() if key != "name"})
        name = str(selection.get("name") or f"rule {number}")
        if not isinstance(conditions, Mapping):
            raise _wrong(name, f"has conditions {conditions!r}", "write an object of DICOM keywords and values")
        if len(conditions) > MAXIMUM_CONDITIONS:
            raise _wrong(name, f"has {len(conditions)} conditions", f"use {MAXIMUM_CONDITIONS} at most")
        for keyword, condition in conditions.items():
            _check_condition(name, keyword, condition)
        parsed.append(Rule(name, {key: value for key, value in conditions.items() if value not in (None, "", [])}))
    return [rule for rule in parsed if rule.conditions]


def keywords_of(rules: Iterable[Rule]) -> set[str]:
    """Return the DICOM keywords whose values the rules compare."""
    return {keyword for rule in rules for keyword in rule.conditions} - {SLICES, PLANE}


def mismatch(rule: Rule, values: Mapping[str, HeaderValue]) -> str | None:
    """Return why a series does not match a rule, or None if it does.

    Parameters
    ----------
    rule
        A checked rule.
    values
        Values of the series by keyword, with `NumberOfSlices` and the plane as `ImageOrientationPatient`.

    Returns
    -------
    str or None
        The first reason. It never repeats free text of the files (descriptions, names), which may name a patient.

    Examples
    --------
    >>> rule = Rule("thin slices", {"SliceThickness": [2, "<="]})
    >>> mismatch(rule, {"SliceThickness": 3.0})
    "SliceThickness 3 does not match [2, '<=']"
    >>> mismatch(rule, {"SliceThickness": 1.0})
    """
    for keyword, condition in rule.conditions.items():
        value = values.get(keyword)
        if value is None or value == "" or value == []:
            return f"has no {keyword}"
        if not _holds(condition, value):
            return f"{keyword}{_shown(keyword, value)} does not match {condition!r}"
    return None


def _holds(condition: Condition, value: HeaderValue) -> bool:
    if isinstance(value, bool | int | float):
        return _number_holds(condition, float(value))
    if isinstance(value, list | tuple) and _are_numbers(value) and _are_numbers(condition):
        return all(isinstance(part, int | float) and _number_holds(condition, part) for part in value)
    if isinstance(value, str) and isinstance(condition, str):
        return not _text_holds(condition[1:], value) if condition.startswith("!") else _text_holds(condition, value)
    terms = [str(term).casefold() for term in (condition if isinstance(condition, list | tuple) else [condition])]
    parts = [str(part).casefold() for part in (value if isinstance(value, list | tuple) else [value])]

    def is_present(term: str) -> bool:
        return any(term in part for part in parts)

    return all(not is_present(term[1:]) if term.startswith("!") else is_present(term) for term in terms)


def _are_numbers(value: object) -> bool:
    """Return whether a value or a condition is a number, or a list that begins with one (a range or comparison)."""
    first = value[0] if isinstance(value, list | tuple) else value
    return isinstance(first, int | float)


def _text_holds(pattern: str, value: str) -> bool:
    return value.casefold() == pattern.casefold() or _matches(pattern, value)


def _matches(pattern: str, text: str) -> bool:
    """Return whether a regular expression matches anywhere in a text, ignoring case.

    The engine of Rust takes linear time; Python's could be stalled by a malicious pattern of a bundle.
    """
    try:
        _compiled(pattern).validate_python(text[:MAXIMUM_TEXT])
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=f"(?i){pattern}", regex_engine="rust-regex"))


def _number_holds(condition: Any, value: float) -> bool:
    if isinstance(condition, list | tuple):
        first, second = condition
        if isinstance(second, str):
            return _COMPARISONS[second](value, float(first))
        return float(first) <= value <= float(second)
    if isinstance(condition, str):
        excluded = condition.startswith("!")
        text = f"{value:g}"
        return _matches(condition[1:] if excluded else condition, text) != excluded
    return math.isclose(value, float(condition), rel_tol=1e-6, abs_tol=1e-9)


def _check_condition(name: str, keyword: str, condition: Any) -> None:
    if keyword != SLICES and tag_for_keyword(keyword) is None:
        raise _wrong(name, f"uses {keyword!r}, which is not a DICOM keyword", "use a keyword of the DICOM dictionary")
    if condition in (None, "", []):
        return
    if keyword == PLANE:
        if not isinstance(condition, str) or condition.removeprefix("!").casefold() not in _PLANES:
            raise _wrong(name, f"has the plane {condition!r}", "write Axial, Coronal or Sagittal")
        return
    if isinstance(condition, list | tuple):
        numbers = [isinstance(part, int | float) and not isinstance(part, bool) for part in condition]
        if numbers[0]:
            is_range = len(condition) == 2 and all(numbers) and condition[0] <= condition[1]
            if not is_range and not (len(condition) == 2 and condition[1] in _COMPARISONS):
                raise _wrong(name, f"has the condition {keyword} {condition!r}", 'write [least, most] or [value, ">"]')
        elif not all(isinstance(part, str) for part in condition):
            raise _wrong(name, f"has the condition {keyword} {condition!r}", "write a list of texts, or two numbers")
    elif isinstance(condition, str):
        _check_pattern(name, keyword, condition.removeprefix("!"))
        if _is_numeric(keyword) and condition in _COMPARISONS:
            raise _wrong(name, f"has the condition {keyword} {condition!r}", 'write [value, ">"]')
    elif isinstance(condition, bool) or not isinstance(condition, int | float):
        raise _wrong(name, f"has the condition {keyword} {condition!r}", "write a text, a number or a list")


def _check_pattern(name: str, keyword: str, pattern: str) -> None:
    if len(pattern) > MAXIMUM_PATTERN:
        raise _wrong(
            name, f"has a pattern of {len(pattern)} characters for {keyword}", f"use {MAXIMUM_PATTERN} at most"
        )
    try:
        _compiled(pattern)
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
        raise _wrong(
            name, f"has a pattern for {keyword} that cannot be used ({reason})", "correct the pattern"
        ) from error


def _is_numeric(keyword: str) -> bool:
    return keyword == SLICES or dictionary_VR(keyword) in _REPEATABLE - {"CS"}


def _shown(keyword: str, value: HeaderValue) -> str:
    """Return a value for a message, empty if it may name a patient."""
    if keyword in (SLICES, PLANE):
        return f" {value}"
    tag = tag_for_keyword(keyword)
    if tag is None or tag >> 16 == _PATIENT_GROUP or dictionary_VR(keyword) not in _REPEATABLE:
        return ""
    parts = value if isinstance(value, list | tuple) else [value]
    return " " + "/".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def _wrong(name: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"series rules, {name}", problem, remedy)
