"""Rules that choose a series, in the syntax of MONAI Deploy's series selector.

A rule is `{"name": ..., "conditions": {KEYWORD: VALUE, ...}}`; all conditions must hold. By the kind of value in the
files: a text is equal, ignoring case, or matched by a regular expression; `"!pattern"` must not match. A number is
equal, within `[least, most]`, or compared as `[value, ">"]` (also `<`, `>=`, `<=`, `==`, `!=`); of several numbers, as
in `PixelSpacing`, each must. A list of texts holds all of the given texts and none of those after a `!`.
`ImageOrientationPatient` is `Axial`, `Coronal` or `Sagittal`. `NumberOfSlices` counts slices (frames of a multi-frame
file), and `SpacingBetweenSlices` is their distance by position. A series without the attribute does not match.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema
from pydicom.datadict import dictionary_VR, tag_for_keyword

from pipeline.errors import ConfigError

SLICES = "NumberOfSlices"
PLANE = "ImageOrientationPatient"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_PLANES = ("axial", "coronal", "sagittal")
_SPEAKABLE = {"CS", "DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"}
_PATIENT_GROUP = 0x0010

MOST_CONDITIONS = 50
LONGEST_PATTERN = 500
LONGEST_TEXT = 10_240
"""Characters of an attribute that a pattern is compared with: the longest text that DICOM limits (LT)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One selection: its name and its conditions by DICOM keyword."""

    name: str
    conditions: Mapping[str, Any]


def parse_rules(rules: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> list[Rule]:
    """Check rules and return them.

    Parameters
    ----------
    rules
        A list of `{"name", "conditions"}`, MONAI Deploy's whole object `{"selections": [...]}`, or bare conditions.

    Raises
    ------
    ConfigError
        For an unknown keyword, a malformed or unsupported regular expression, or a value of the wrong kind.
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
        if len(conditions) > MOST_CONDITIONS:
            raise _wrong(name, f"has {len(conditions)} conditions", f"use {MOST_CONDITIONS} at most")
        for keyword, wanted in conditions.items():
            _check_condition(name, keyword, wanted)
        parsed.append(Rule(name, {key: wanted for key, wanted in conditions.items() if wanted not in (None, "", [])}))
    return [rule for rule in parsed if rule.conditions]


def keywords_of(rules: Iterable[Rule]) -> set[str]:
    """Return the DICOM keywords whose values the rules look at."""
    return {keyword for rule in rules for keyword in rule.conditions} - {SLICES, PLANE}


def mismatch(rule: Rule, values: Mapping[str, Any]) -> str | None:
    """Return why a series does not match, or None where it does.

    Parameters
    ----------
    values
        Of the series by keyword: text, number, list of texts; `NumberOfSlices`; the plane as
        `ImageOrientationPatient`.

    Returns
    -------
    str or None
        Free text of the files (descriptions, names) is never repeated in it: it may name a patient.
    """
    for keyword, wanted in rule.conditions.items():
        value = values.get(keyword)
        if value is None or value == "" or value == []:
            return f"has no {keyword}"
        if not _holds(wanted, value):
            return f"{keyword}{_spoken(keyword, value)} does not match {wanted!r}"
    return None


def _holds(wanted: Any, value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return _number_holds(wanted, float(value))
    if isinstance(value, list | tuple) and _are_numbers(value) and _are_numbers(wanted):
        return all(_number_holds(wanted, float(part)) for part in value)
    found = [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
    if isinstance(value, str) and isinstance(wanted, str):
        return not _text_holds(wanted[1:], value) if wanted.startswith("!") else _text_holds(wanted, value)
    terms = [str(term).casefold() for term in (wanted if isinstance(wanted, list | tuple) else [wanted])]
    parts = [part.casefold() for part in found]

    def is_there(term: str) -> bool:
        return any(term in part for part in parts)

    return all(not is_there(term[1:]) if term.startswith("!") else is_there(term) for term in terms)


def _are_numbers(value: Any) -> bool:
    """Return whether a value or a condition is a number, or a list that begins with one (a range or comparison)."""
    first = value[0] if isinstance(value, list | tuple) else value
    return isinstance(first, int | float)


def _text_holds(wanted: str, value: str) -> bool:
    return value.casefold() == wanted.casefold() or _matches(wanted, value)


def _matches(pattern: str, text: str) -> bool:
    """Whether a regular expression matches anywhere in a text, ignoring case; in linear time."""
    try:
        _compiled(pattern).validate_python(text[:LONGEST_TEXT])
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=f"(?i){pattern}", regex_engine="rust-regex"))


def _number_holds(wanted: Any, value: float) -> bool:
    if isinstance(wanted, list | tuple):
        first, second = wanted
        if isinstance(second, str):
            return _COMPARISONS[second](value, float(first))
        return float(first) <= value <= float(second)
    if isinstance(wanted, str):
        excluded = wanted.startswith("!")
        text = f"{value:g}"
        return _matches(wanted[1:] if excluded else wanted, text) != excluded
    return math.isclose(value, float(wanted), rel_tol=1e-6, abs_tol=1e-9)


def _check_condition(name: str, keyword: str, wanted: Any) -> None:
    if keyword != SLICES and tag_for_keyword(keyword) is None:
        raise _wrong(name, f"asks for {keyword!r}, which is no DICOM keyword", "use a keyword of the DICOM dictionary")
    if wanted in (None, "", []):
        return
    if keyword == PLANE:
        if not isinstance(wanted, str) or wanted.removeprefix("!").casefold() not in _PLANES:
            raise _wrong(name, f"asks for the plane {wanted!r}", "write Axial, Coronal or Sagittal")
        return
    if isinstance(wanted, list | tuple):
        numbers = [isinstance(part, int | float) and not isinstance(part, bool) for part in wanted]
        if numbers[0]:
            is_range = len(wanted) == 2 and all(numbers) and wanted[0] <= wanted[1]
            if not is_range and not (len(wanted) == 2 and wanted[1] in _COMPARISONS):
                raise _wrong(name, f"asks for {keyword} {wanted!r}", 'write [least, most] or [value, ">"]')
        elif not all(isinstance(part, str) for part in wanted):
            raise _wrong(name, f"asks for {keyword} {wanted!r}", "write a list of texts, or two numbers")
    elif isinstance(wanted, str):
        _check_pattern(name, keyword, wanted.removeprefix("!"))
        if _is_numeric(keyword) and wanted in _COMPARISONS:
            raise _wrong(name, f"asks for {keyword} {wanted!r}", 'write [value, ">"]')
    elif isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise _wrong(name, f"asks for {keyword} {wanted!r}", "write a text, a number or a list")


def _check_pattern(name: str, keyword: str, pattern: str) -> None:
    if len(pattern) > LONGEST_PATTERN:
        raise _wrong(
            name, f"has a pattern of {len(pattern)} characters for {keyword}", f"use {LONGEST_PATTERN} at most"
        )
    try:
        _compiled(pattern)
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
        raise _wrong(
            name, f"has a pattern for {keyword} that cannot be used ({reason})", "correct the pattern"
        ) from error


def _is_numeric(keyword: str) -> bool:
    return keyword == SLICES or dictionary_VR(keyword) in _SPEAKABLE - {"CS"}


def _spoken(keyword: str, value: Any) -> str:
    if keyword in (SLICES, PLANE):
        return f" {value}"
    tag = tag_for_keyword(keyword)
    if tag is None or tag >> 16 == _PATIENT_GROUP or dictionary_VR(keyword) not in _SPEAKABLE:
        return ""
    parts = value if isinstance(value, list | tuple) else [value]
    return " " + "/".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def _wrong(name: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"series rules, {name}", problem, remedy)
