"""Lists of images to predict: CSV with a column for each channel, JSON, or plain text with a path a line."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.layouts.naming import stem, without_channel_numbers
from pipeline.errors import DatasetError
from pipeline.system.files import open_regular

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".json")

_IMAGE = re.compile(r"image(_.+|\d+)?")
_SHAPE = "give the columns image (or image_0, image_1, …) and, if you like, case"

Listed = tuple[str, tuple[Path, ...]]


def read_image_list(path: Path) -> list[Listed]:
    """Return a name and the image files of each case; relative paths are relative to the list.

    Columns are ``image`` or one ``image_…`` a channel, in the order of the model's channels, and optionally ``case``
    (or ``id``); others are left out, so that a training list serves too. JSON holds objects of these keys, where
    ``image`` may be a list; or paths.

    Raises
    ------
    DatasetError
        When it is no such list, lists nothing, or names a case twice.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(path, f"cannot be read ({type(error).__name__})", "save it as text in UTF-8") from None
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _text_rows(path, text)
    images = [_images(path, number, row) for number, row in enumerate(rows, start=1)]
    if not images:
        raise DatasetError(path, "lists no cases", _SHAPE)
    names = _names(rows, images)
    cases = [(name, tuple(path.parent / file for file in files)) for name, files in zip(names, images, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(path, f"has two cases of the name {twice!r}", "give every case a name of its own")
    return cases


def _text_rows(path: Path, text: str) -> list[dict[str, object]]:
    lines = [line for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    header = [cell.strip().lower() for cell in re.split(r"[,;\t]", first)]
    if path.suffix.lower() == ".txt" and not any(map(_IMAGE.fullmatch, header)):
        return [{"image": line.strip()} for line in lines]
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        records = [row for row in reader if any(cell.strip() for cell in row)][1:]
    except csv.Error as error:
        raise DatasetError(path, f"is no valid CSV ({error})", "correct it or write it again") from None
    if not any(map(_IMAGE.fullmatch, header)):
        raise DatasetError(path, f"has the columns {', '.join(header[:12])}", _SHAPE)
    for number, row in enumerate(records, start=1):
        if len(row) != len(header):
            raise DatasetError(path, f"row {number} has {len(row)} cells, its header {len(header)}", "quote separators")
    return [dict(zip(header, (cell.strip() for cell in row), strict=True)) for row in records]


def _json_rows(path: Path) -> list[dict[str, object]]:
    from pipeline.data.layouts.description import read_json

    content = read_json(path)
    entries = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, str | dict) for entry in entries):
        raise DatasetError(path, "is no list of cases", 'write a list of paths or of {"case": ..., "image": ...}')
    return [
        {"image": entry} if isinstance(entry, str) else {str(key).lower(): value for key, value in entry.items()}
        for entry in entries
    ]


def _images(path: Path, number: int, row: dict[str, object]) -> list[str]:
    columns = [name for name in row if _IMAGE.fullmatch(name)]
    if all(re.fullmatch(r"image_?\d+", name) for name in columns):
        columns.sort(key=lambda name: int(name.removeprefix("image").removeprefix("_")))
    images: list[object] = []
    for name in columns:
        value = row[name]
        images += value if isinstance(value, list) else [value]
    texts = [image for image in images if isinstance(image, str) and image.strip()]
    if not texts or len(texts) != len(images):
        raise DatasetError(path, f"case {number} lacks an image", _SHAPE)
    return texts


def _names(rows: Sequence[Mapping[str, object]], images: Sequence[Sequence[str]]) -> list[str]:
    """Return the name of each case: the one given, else that of its first image without a channel number."""
    found = [_path_name(files[0]) for files in images]
    single = [index for index, files in enumerate(images) if len(files) == 1]
    plain = dict(zip(single, without_channel_numbers([found[index] for index in single]), strict=True))
    return [
        str(row.get("case") or row.get("id") or plain.get(index) or without_channel_numbers([found[index]])[0])
        for index, row in enumerate(rows)
    ]


def _path_name(image: str) -> str:
    path = Path(image)
    return path.with_name(stem(path)).as_posix().lstrip("./") or stem(path)
