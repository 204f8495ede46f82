"""Tables of images in CSV: the text, its cells by column, and the order of the image columns."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.system.files import open_regular

_IMAGE_COLUMN = re.compile(r"image(_.+|\d+)?")
_NUMBERED_COLUMN = re.compile(r"image_?(\d+)")

Line = tuple[int, list[str]]
"""The number of a line in the file, and its cells."""


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    DatasetError
        Where the file cannot be read or is not UTF-8.
    """
    try:
        with open_regular(path) as stream:
            return stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(path, "is not text in UTF-8", "save it as CSV UTF-8") from None
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", "check the file") from None


def split_cells(path: Path, text: str) -> list[Line]:
    """Return the lines of a CSV text that are not empty, the header first, with spaces around cells removed.

    The separator is the one of comma, semicolon and tab that is most frequent in the first line.

    Raises
    ------
    DatasetError
        Naming `path`, where the text is not valid CSV.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        return [
            (reader.line_num, [cell.strip() for cell in cells])
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise DatasetError(path, f"is not valid CSV ({error})", "correct it or write it again") from None


def by_column(path: Path, header: Sequence[str], lines: Iterable[Line]) -> list[tuple[int, dict[str, str]]]:
    """Return the number and the cells by column of each line after the header.

    Raises
    ------
    DatasetError
        Naming the first line that has more or fewer cells than the header.
    """
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            problem = f"line {number} has {len(cells)} cells, its header {len(header)}"
            raise DatasetError(path, problem, "quote cells that hold separators")
        rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


def image_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that hold images, in the order of the channels: by number if all are numbered.

    Examples
    --------
    >>> image_columns(["case", "image_1", "image_0", "label"])
    ['image_0', 'image_1']
    >>> image_columns(["image_t2", "image_t1"])
    ['image_t2', 'image_t1']
    """
    images = [name for name in names if _IMAGE_COLUMN.fullmatch(name)]
    if all(column_number(name) is not None for name in images):
        images.sort(key=lambda name: column_number(name) or 0)
    return images


def column_number(name: str) -> int | None:
    """Return the channel number of a column such as ``image_0`` or ``image0``; None where it has no number."""
    match = _NUMBERED_COLUMN.fullmatch(name)
    return int(match[1]) if match else None
