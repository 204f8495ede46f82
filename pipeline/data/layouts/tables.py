"""Lists of cases in CSV or JSON: image column(s), label, and optionally case, patient and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.dataset import Case, Dataset
from pipeline.data.layouts.annotated import annotation_of_row
from pipeline.data.layouts.delimited import by_column, column_number, image_columns, read_text, split_cells
from pipeline.data.layouts.description import (
    channel_names,
    class_names,
    ignore_value,
    listed,
    read_json,
    refuse_missing_files,
    shown,
)
from pipeline.data.layouts.naming import case_ids, stem
from pipeline.errors import DatasetError

_ID_COLUMNS = ("case", "id")
_OTHER_COLUMNS = ("label", "patient", "fold", "annotated", *_ID_COLUMNS)
_EXPECTED = "image (or image_0, image_1, ... or image_flair, ...), label, and optionally case, patient, fold, annotated"


@dataclass(frozen=True, slots=True)
class _Row:
    """One case of a list; `where` names its line or position in messages, and an absent value is ""."""

    where: str
    images: tuple[str, ...]
    label: str
    case: str
    patient: str
    fold: str
    annotated: str


def read_csv(path: Path, *, allow_missing: bool = False) -> Dataset:
    """Return the dataset that a CSV file lists; relative paths are relative to it.

    Cells are separated by commas, semicolons or tabs. Class names come from a `dataset.json` in the same folder.
    """
    records = split_cells(path, read_text(path))
    if not records:
        raise DatasetError(path, "is empty", f"give the columns {_EXPECTED}")
    header = [cell.lower() for cell in records[0][1]]
    images = _image_columns(header, path)
    rows = [
        _row(values, [values[name] for name in images], f"line {line}")
        for line, values in by_column(path, header, records[1:])
    ]
    labels = _labels_beside(path)
    classes = class_names(labels, path.parent / "dataset.json") if labels else {}
    dataset = _dataset(path, rows, _channels_of(images), classes, allow_missing)
    return replace(dataset, ignore_label=ignore_value(labels, path.parent / "dataset.json"))


def _labels_beside(path: Path) -> object:
    """Return the `labels` of a `dataset.json` in the folder of a CSV, which cannot name classes itself."""
    description = path.parent / "dataset.json"
    content = read_json(description) if description.is_file() else None
    return content.get("labels") if isinstance(content, Mapping) else None


def read_json_list(path: Path, content: object, *, allow_missing: bool = False) -> Dataset:
    """Return the dataset that a JSON file lists; relative paths are relative to the file.

    Parameters
    ----------
    path
        The file.
    content
        Its content: a list of objects, or ``{"cases": [...], "classes": {...}, "channels": [...], "name": ...}``. An
        object has the same keys as a CSV has columns; ``image`` may be a list of paths.
    allow_missing
        True if cases with missing files are returned.

    Raises
    ------
    DatasetError
        The content has another form, cases have different channels, or files are missing.

    Examples
    --------
    >>> content = [{"case": "a", "image": ["a_t1.nii.gz", "a_t2.nii.gz"], "label": "a_seg.nii.gz", "patient": "p1"}]
    >>> dataset = read_json_list(Path("list.json"), content, allow_missing=True)
    >>> dataset.channels, [(case.id, case.patient) for case in dataset.cases]
    (('channel 0', 'channel 1'), [('a', 'p1')])
    """
    description = _described(path, content)
    entries = description["cases"]
    classes = class_names(description["classes"], path) if description.get("classes") else {}
    channels = channel_names(description["channels"], path, "channels") if description.get("channels") else ()
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DatasetError(path, "is not a list of cases", 'write a list of {"image": ..., "label": ...}')
    rows = []
    for index, entry in enumerate(entries):
        row, own_channels = _json_row(path, entry, f"case {index}")
        rows.append(row)
        if not channels:
            channels = own_channels
        elif len(row.images) > 1 and len(row.images) != len(channels):
            problem = f"case {index} has {len(row.images)} images where there are {len(channels)} channels"
            raise DatasetError(path, problem, "give all of them")
    dataset = _dataset(path, rows, channels, classes, allow_missing, str(description.get("name") or ""))
    return replace(dataset, ignore_label=ignore_value(description.get("classes"), path))


def _described(path: Path, content: object) -> Mapping[str, object]:
    """Return the content of a JSON list as an object with the key ``cases``."""
    if not isinstance(content, Mapping):
        return {"cases": content}
    unknown = sorted(set(map(str, content)) - {"cases", "classes", "channels", "name"})
    if "cases" not in content or unknown:
        raise DatasetError(
            path,
            f"has the keys {listed(sorted(map(str, content)))}; expected cases, classes, channels, name",
            'write a list of {"image": ..., "label": ...}, or {"cases": [...]}',
        )
    return content


def _json_row(path: Path, entry: Mapping[object, object], where: str) -> tuple[_Row, tuple[str, ...]]:
    """Return an object of a JSON list as a row, and the names of its channels."""
    values = {str(key).lower(): value for key, value in entry.items()}
    columns = _image_columns(list(values), path, f"{where}: ")
    images: list[object] = []
    for name in columns:
        value = values[name]
        images += value if isinstance(value, list) else [value]
    not_text = [image for image in images if not isinstance(image, str)]
    if not_text:
        raise DatasetError(path, f"{where} has the image {shown(not_text[0])}", "give paths as text")
    one_per_column = len(columns) == len(images)
    channels = _channels_of(columns) if one_per_column else tuple(f"channel {i}" for i in range(len(images)))
    annotated = values.get("annotated")
    if isinstance(annotated, list):
        values["annotated"] = "|".join(map(str, annotated))
    texts = {key: "" if value is None else str(value) for key, value in values.items()}
    return _row(texts, [str(image) for image in images], where), channels


def read_list(path: Path, *, allow_missing: bool = False) -> Dataset:
    """Return the dataset of a JSON file (.json) or of a CSV file (any other suffix)."""
    if path.suffix.lower() == ".json":
        return read_json_list(path, read_json(path), allow_missing=allow_missing)
    return read_csv(path, allow_missing=allow_missing)


def _image_columns(header: Sequence[str], path: Path, where: str = "") -> list[str]:
    """Return the image columns in the order of channels, and refuse what no one reads."""
    images = image_columns(header)
    unknown = [name for name in header if name not in images and name not in _OTHER_COLUMNS]
    twice = sorted({name for name in header if header.count(name) > 1})
    if "image" in images and len(images) > 1:
        unknown += ["image beside " + listed([name for name in images if name != "image"])]
    if not images or "label" not in header or unknown or twice or all(name in header for name in _ID_COLUMNS):
        problem = f"{where}looked for the columns {_EXPECTED}; found {listed(list(header), 12)}"
        strange = unknown or twice
        raise DatasetError(
            path, problem + (f" (not understood: {listed(strange)})" if strange else ""), "rename or remove columns"
        )
    return images


def _channels_of(columns: Sequence[str]) -> tuple[str, ...]:
    if list(columns) == ["image"]:
        return ("image",)
    return tuple(
        f"channel {column_number(name)}" if column_number(name) is not None else name.removeprefix("image_")
        for name in columns
    )


def _row(values: Mapping[str, str], images: Sequence[str], where: str) -> _Row:
    return _Row(
        where=where,
        images=tuple(images),
        label=values.get("label", ""),
        case=values.get("case", values.get("id", "")),
        patient=values.get("patient", ""),
        fold=values.get("fold", ""),
        annotated=values.get("annotated", ""),
    )


def _dataset(
    path: Path,
    rows: Sequence[_Row],
    channels: tuple[str, ...],
    classes: dict[int, str],
    allow_missing: bool,
    name: str = "",
) -> Dataset:
    if not rows:
        raise DatasetError(path, "lists no cases", f"give one row per case with {_EXPECTED}")
    for row in rows:
        if not row.images or not all(row.images):
            raise DatasetError(path, f"{row.where} lacks an image", "give every channel of every case")
        if not row.label and not allow_missing:
            raise DatasetError(path, f"{row.where} has no label", "give a label for every case")
    folds = _folds(path, rows)
    ids = case_ids(_names(path, rows), path)
    cases = tuple(
        Case(
            id=case,
            images=tuple(path.parent / image for image in row.images),
            label=path.parent / row.label if row.label else None,
            patient=row.patient or case,
            fold=fold,
            annotation=annotation_of_row(row.annotated, classes, path, row.where),
        )
        for case, row, fold in zip(ids, rows, folds, strict=True)
    )
    if not allow_missing:
        refuse_missing_files(path, cases)
    return Dataset(
        name=name or path.stem, root=path.parent, layout="list", channels=channels, classes=classes, cases=cases
    )


def _folds(path: Path, rows: Sequence[_Row]) -> list[int | None]:
    """Return the fold of each row; None for all if no row has one."""
    if not any(row.fold for row in rows):
        return [None] * len(rows)
    folds: list[int | None] = []
    for row in rows:
        try:
            # Spreadsheets write whole numbers as 1.0.
            fold = int(float(row.fold)) if float(row.fold).is_integer() else -1
        except (ValueError, OverflowError):
            fold = -1
        if fold < 0:
            raise DatasetError(
                path, f"{row.where} has the fold {row.fold!r}", "number folds from 0, for all cases or none"
            )
        folds.append(fold)
    return folds


def _names(path: Path, rows: Sequence[_Row]) -> list[str]:
    """Return the names of all rows: those of the list, or else the shortest names from files that are unique."""
    named = [row for row in rows if row.case]
    if len(named) == len(rows):
        return [row.case for row in rows]
    if named:
        missing = next(row for row in rows if not row.case)
        raise DatasetError(
            path, f"{missing.where} has no case id where others have one", "give ids to all cases or none"
        )
    files = [(Path(row.images[0]), Path(row.label)) for row in rows]
    candidates = (
        [stem(image) for image, _ in files],
        [stem(label) for _, label in files],
        [image.parent.name for image, _ in files],
        [f"{image.parent.name}_{stem(image)}" for image, _ in files],
    )
    for names in candidates:
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{image.parent.as_posix()}/{stem(image)}".removeprefix("./") for image, _ in files]
