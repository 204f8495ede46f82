"""Parts of dataset descriptions that layouts share: JSON files, names of channels and classes, missing files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.dataset import Case
from pipeline.errors import DatasetError
from pipeline.system.files import open_regular

IGNORE = "ignore"
"""Name of the label of voxels that nobody annotated, as in nnU-Net."""


def read_json(path: Path) -> object:
    """Return the content of a JSON file.

    Raises
    ------
    DatasetError
        The file cannot be read or is not JSON; the message has line and column.
    """
    try:
        with open_regular(path) as stream:
            content: object = json.loads(stream.read().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DatasetError(
            path, f"is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})", "correct that place"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise DatasetError(path, "is not JSON text in UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", "check the file") from None
    return content


def channel_names(value: object, path: Path, key: str) -> tuple[str, ...]:
    """Return the names of channels from ``{"0": "T1", "1": "T2"}`` or ``["T1", "T2"]``, in order.

    Parameters
    ----------
    value
        Content of the description.
    path, key
        File and key of this content, for the error message.

    Raises
    ------
    DatasetError
        The content has another form.

    Examples
    --------
    >>> channel_names({"1": "T2", "0": "T1"}, Path("dataset.json"), "modality")
    ('T1', 'T2')
    """
    if isinstance(value, Mapping) and value:
        by_index = {_whole_number(index): str(name) for index, name in value.items()}
        if set(by_index) == set(range(len(value))):
            return unique([by_index[index] for index in range(len(value))])
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        return unique([str(name) for name in value])
    raise DatasetError(path, f"has no channels from 0 upward in {key!r}: {shown(value)}", 'write {"0": "T1", ...}')


def class_names(value: object, path: Path) -> dict[int, str]:
    """Return names by label value from ``{"1": "liver"}``, ``{"liver": 1}`` or ``["background", "liver"]``.

    The background is added if it is missing.

    Parameters
    ----------
    value
        Content of the description.
    path
        Its file, for the error message.

    Raises
    ------
    DatasetError
        The content has another form, names a region (a list of values), or gives a value twice.

    Examples
    --------
    >>> class_names({"liver": 1, "tumor": 2, "ignore": 3}, Path("dataset.json"))
    {0: 'background', 1: 'liver', 2: 'tumor'}
    """
    classes = _names_by_value(value, path)
    if ignored := [number for number, name in classes.items() if name == IGNORE]:
        del classes[ignored[0]]
    classes.setdefault(0, "background")
    if len(classes) == 1:
        raise DatasetError(path, "names no class besides the background", "name the classes of the labels")
    names = dict(sorted(classes.items()))
    return dict(zip(names, unique(list(names.values())), strict=True))


def ignore_value(value: object, path: Path) -> int | None:
    """Return the label value named ``ignore``, as nnU-Net writes it; None without one.

    Raises
    ------
    DatasetError
        The content has another form, or the value is not the highest one, as nnU-Net demands.

    Examples
    --------
    >>> ignore_value({"background": 0, "liver": 1, "ignore": 2}, Path("dataset.json"))
    2
    """
    if not value:
        return None
    classes = _names_by_value(value, path)
    ignored = next((number for number, name in classes.items() if name == IGNORE), None)
    if ignored is not None and ignored != max(classes):
        raise DatasetError(
            path,
            f"gives the ignore label the value {ignored}, below that of {classes[max(classes)]!r} ({max(classes)})",
            "give it the highest value, as nnU-Net demands",
        )
    return ignored


def _names_by_value(value: object, path: Path) -> dict[int, str]:
    """Return all names by value as they are written, the ignore label among them."""
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
        if number in classes:
            raise DatasetError(
                path, f"gives value {number} to {classes[number]!r} and {name!r}", "use one value per class"
            )
        if name == IGNORE and name in classes.values():
            raise DatasetError(path, "has two ignore labels", "use one value for ignored voxels")
        classes[number] = name
    return classes


def refuse_missing_files(source: Path, cases: Sequence[Case]) -> None:
    """Raise a `DatasetError` if files of `cases` do not exist; it has their number and the first one.

    Parameters
    ----------
    source
        File or folder that lists the cases.
    cases
        Cases to check.

    Raises
    ------
    DatasetError
        A file does not exist.
    """
    files = [file for case in cases for file in case.files]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(
            source,
            f"lists {len(files)} files of which {len(missing)} do{'es' if len(missing) == 1 else ''} not exist, "
            f"first {missing[0]}",
            "add the missing files, or remove their cases from the list",
        )


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without duplicates, by numbering repeated ones.

    Examples
    --------
    >>> unique(["MRI", "MRI", "CT"])
    ('MRI', 'MRI 2', 'CT')
    """
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return tuple(numbered)


def shown(value: object) -> str:
    """Return a value as JSON for an error message, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names for an error message, and the number of those beyond the first `most`.

    Examples
    --------
    >>> listed(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
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
