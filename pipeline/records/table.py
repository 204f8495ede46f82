"""`cases.csv`: the long table of results, one row a value.

Columns: ``loss, fold, seed, case, class, metric, value, state``. Distances in mm, overlap in 0..1, `state` one of
``ok``, ``correct_absence``, ``missed``, ``false_positive``, ``collapsed``; `value` is empty where a metric is undefined
(a correct absence has no overlap). Distances of a miss are the diagonal of the image in mm. A name that a spreadsheet
would run as a formula is written with an apostrophe before it, and read without.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pipeline.errors import RecordError
from pipeline.files import write_text

COLUMNS = ("loss", "fold", "seed", "case", "class", "metric", "value", "state")
NAMES = ("loss", "case", "class", "metric", "state")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes spreadsheets take a cell for a formula."""

STATES = ("ok", "correct_absence", "missed", "false_positive", "collapsed")


@dataclass(frozen=True, slots=True)
class Score:
    """One value of one metric for one class of one case; `value` is None where the metric is undefined."""

    case: str
    class_name: str
    metric: str
    value: float | None
    state: str


def scores_frame(loss: str, fold: int, seed: int, scores: Iterable[Score]) -> pd.DataFrame:
    """Return the scores of one run as rows of the long table."""
    frame = pd.DataFrame(
        [asdict(score) for score in scores], columns=["case", "class_name", "metric", "value", "state"]
    )
    frame = frame.rename(columns={"class_name": "class"})
    frame.insert(0, "loss", loss)
    frame.insert(1, "fold", fold)
    frame.insert(2, "seed", seed)
    return frame[list(COLUMNS)]


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write the table as UTF-8 CSV, whole or not at all; floats in their shortest exact form."""
    write_text(path, csv_text(frame))


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV whose names no spreadsheet runs."""
    names = {name: _renamed(frame[name], _defused) for name in NAMES if name in frame.columns}
    return str(frame.assign(**names).to_csv(index=False, lineterminator="\n"))


def with_plain_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was read from such CSV with its names as they were."""
    names = {name: _renamed(frame[name], _plain) for name in NAMES if name in frame.columns}
    return frame.assign(**names)


def _renamed(names: "pd.Series[str]", rename: Callable[[str], str]) -> "pd.Series[str]":
    """Return a column with its names changed; of millions of rows only the different names are looked at."""
    changed = {name: rename(name) for name in names.unique() if isinstance(name, str) and rename(name) != name}
    return names.replace(changed) if changed else names


def _defused(name: str) -> str:
    return f"'{name}" if name.lstrip("'").startswith(FORMULA) else name


def _plain(name: str) -> str:
    return name[1:] if name.startswith("'") and name.lstrip("'").startswith(FORMULA) else name


def read_table(path: Path) -> pd.DataFrame:
    """Return the table with text columns as strings; a `RecordError` where columns are missing."""
    try:
        frame = pd.read_csv(path, dtype={"loss": str, "case": str, "class": str, "metric": str, "state": str})
    except (OSError, ValueError) as error:
        raise RecordError(
            path, f"cannot be read as CSV ({error})", "give a table with the columns of cases.csv"
        ) from error
    frame = with_plain_names(frame)
    missing = [name for name in ("loss", "case", "metric", "value") if name not in frame.columns]
    if missing:
        raise RecordError(
            path,
            f"lacks the column(s) {', '.join(missing)}; found {', '.join(map(str, frame.columns))}",
            "name the columns loss, case, metric, value",
        )
    return frame
