"""Lists of images to predict: CSV with a column for each channel, JSON, or plain text with one path per line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.layouts.delimited import by_column, image_columns, read_text, split_cells
from pipeline.data.layouts.description import listed, read_json
from pipeline.data.layouts.naming import stem, without_channel_numbers
from pipeline.errors import DatasetError

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".json")

_EXPECTED = "give the columns image (or image_0, image_1, …) and optionally case"


@dataclass(frozen=True, slots=True)
class ListedCase:
    """Name and image files of a case."""

    name: str
    images: tuple[Path, ...]


def read_image_list(path: Path) -> list[ListedCase]:
    """Return the cases of a list; relative paths are relative to the list.

    Columns are ``image``, or one ``image_…`` for each channel in the order of the model's channels, and optionally
    ``case`` (or ``id``). Other columns are ignored, so that a training list can be used too. JSON holds objects with
    these keys, where ``image`` may be a list; or paths.

    Raises
    ------
    DatasetError
        When the file is not such a list, has no cases, or names a case twice.
    """
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _text_rows(path, read_text(path))
    images = [_images(path, number, row) for number, row in enumerate(rows, start=1)]
    if not images:
        raise DatasetError(path, "lists no cases", _EXPECTED)
    names = _names(rows, images)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DatasetError(path, f"has two cases with the name {repeated!r}", "give every case its own name")
    return [
        ListedCase(name, tuple(path.parent / file for file in files)) for name, files in zip(names, images, strict=True)
    ]


def _text_rows(path: Path, text: str) -> Sequence[Mapping[str, object]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = [cell.strip().lower() for cell in re.split(r"[,;\t]", lines[0])] if lines else []
    if path.suffix.lower() == ".txt" and not image_columns(first):
        return [{"image": line} for line in lines]
    cells = split_cells(path, text)
    header = [cell.lower() for cell in cells[0][1]] if cells else []
    if not image_columns(header):
        raise DatasetError(path, f"has the columns {listed(header, 12)}", _EXPECTED)
    return [row for _, row in by_column(path, header, cells[1:])]


def _json_rows(path: Path) -> Sequence[Mapping[str, object]]:
    content = read_json(path)
    entries = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, str | dict) for entry in entries):
        raise DatasetError(path, "is not a list of cases", 'write a list of paths or of {"case": ..., "image": ...}')
    return [
        {"image": entry} if isinstance(entry, str) else {str(key).lower(): value for key, value in entry.items()}
        for entry in entries
    ]


def _images(path: Path, number: int, row: Mapping[str, object]) -> list[str]:
    images: list[object] = []
    for name in image_columns(row):
        value = row[name]
        images += value if isinstance(value, list) else [value]
    texts = [image for image in images if isinstance(image, str) and image.strip()]
    if not texts or len(texts) != len(images):
        raise DatasetError(path, f"case {number} lacks an image", _EXPECTED)
    return texts


def _names(rows: Sequence[Mapping[str, object]], images: Sequence[Sequence[str]]) -> list[str]:
    """Return the name of each case: the listed one, else that of its first image without a channel number."""
    file_names = [_path_name(files[0]) for files in images]
    single = [index for index, files in enumerate(images) if len(files) == 1]
    unnumbered = dict(zip(single, without_channel_numbers([file_names[index] for index in single]), strict=True))
    return [
        str(
            row.get("case") or row.get("id") or unnumbered.get(index) or without_channel_numbers([file_names[index]])[0]
        )
        for index, row in enumerate(rows)
    ]


def _path_name(image: str) -> str:
    path = Path(image)
    return path.with_name(stem(path)).as_posix().lstrip("./") or stem(path)
