"""The parts of a dataset.json that layouts share: reading it, names of channels and classes, missing files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.dataset import Case
from pipeline.errors import DatasetError
from pipeline.system.files import open_regular


def read_json(path: Path) -> object:
    """Return the content of a JSON file, or raise a DatasetError that says where it is broken."""
    try:
        with open_regular(path) as stream:
            content: object = json.loads(stream.read().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DatasetError(
            path, f"is no valid JSON (line {error.lineno}, column {error.colno}: {error.msg})", "correct that place"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise DatasetError(path, "is no JSON text in UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", "check the file") from None
    return content


def channel_names(value: object, path: Path, key: str) -> tuple[str, ...]:
    """Return names of channels from ``{"0": "T1", "1": "T2"}`` or ``["T1", "T2"]``, in order."""
    if isinstance(value, Mapping) and value:
        by_index = {_whole_number(index): str(name) for index, name in value.items()}
        if set(by_index) == set(range(len(value))):
            return unique([by_index[index] for index in range(len(value))])
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        return unique([str(name) for name in value])
    raise DatasetError(path, f"has no channels from 0 upwards in {key!r}: {shown(value)}", 'write {"0": "T1", ...}')


def class_names(value: object, path: Path) -> dict[int, str]:
    """Return names by label value from ``{"1": "liver"}``, ``{"liver": 1}`` or ``["background", "liver"]``.

    The background is added where it is missing. Regions (lists of values) and an ignore label are refused.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = {str(index): name for index, name in enumerate(value)}
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(path, f"has no class names in 'labels': {shown(value)}", 'write {"background": 0, ...}')
    classes: dict[int, str] = {}
    for key, other in value.items():
        if isinstance(other, Sequence) and not isinstance(other, str):
            raise DatasetError(
                path, f"defines {key!r} as a region of label values {shown(other)}", "give each class one label value"
            )
        number, name = (_whole_number(key), other) if _whole_number(key) is not None else (_whole_number(other), key)
        if number is None or not isinstance(name, str) or number < 0:
            raise DatasetError(path, f"has the label {key!r}: {shown(other)}", "map each class to one whole number")
        if name == "ignore":
            raise DatasetError(
                path, f"has an ignore label, value {number}", "ignored voxels are not supported: label them"
            )
        if number in classes:
            raise DatasetError(
                path, f"gives value {number} to {classes[number]!r} and {name!r}", "use one value a class"
            )
        classes[number] = name
    classes.setdefault(0, "background")
    if len(classes) == 1:
        raise DatasetError(path, "names no class besides the background", "name the classes of the labels")
    names = dict(sorted(classes.items()))
    return dict(zip(names, unique(list(names.values())), strict=True))


def refuse_missing_files(source: Path, cases: Sequence[Case]) -> None:
    """Raise a DatasetError that counts the files of `cases` which do not exist and names the first."""
    files = [file for case in cases for file in case.files]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(
            source,
            f"lists {len(files)} files of which {len(missing)} do{'es' if len(missing) == 1 else ''} not exist, "
            f"first {missing[0]}",
            "add what is missing or take its case out of the list",
        )


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` with those that occur twice numbered: ``MRI, MRI`` gives ``MRI, MRI 2``."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return tuple(found)


def shown(value: object) -> str:
    """Return a value for an error message, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names for an error message: ``a, b, c`` and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "nothing"


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None
