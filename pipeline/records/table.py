"""`cases.csv`: the long table of results, one row per value.

Columns: ``loss, fold, seed, case, class, metric, value, state, tolerance_mm``. Distances are in mm, overlap in 0..1;
`state` is one of ``ok``, ``correct_absence``, ``missed``, ``false_positive``, ``collapsed``, ``not_annotated``. `value`
is empty where a metric is undefined (a correct absence has no overlap), and where the class was not annotated.
Distances of a miss are the diagonal of the image in mm. `tolerance_mm` is the tolerance of surface Dice and empty for
all other metrics; tables written before that column was added lack it. A name that a spreadsheet would run as a formula
is written with an apostrophe before it, and read without.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import RecordError
from pipeline.system.files import write_text

COLUMNS = ("loss", "fold", "seed", "case", "class", "metric", "value", "state", "tolerance_mm")
BUDGET_COLUMNS = ("steps", *COLUMNS)
"""Columns of ``budgets.csv``; `steps` is the budget in optimizer steps."""

NAMES = ("loss", "case", "class", "metric", "state")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet read a cell as a formula."""

STATES = ("ok", "correct_absence", "missed", "false_positive", "collapsed", "not_annotated")


@dataclass(frozen=True, slots=True)
class Score:
    """One value of one metric for one class of one case.

    `value` is None where the metric is undefined, `tolerance_mm` where the metric has no tolerance.
    """

    case: str
    class_name: str
    metric: str
    value: float | None
    state: str
    tolerance_mm: float | None = None


def mean_dice(scores: Sequence[Score]) -> float | None:
    """Return the mean over classes of the mean Dice over the cases in which it is defined, or None without any.

    Examples
    --------
    >>> from pipeline.records.table import Score, mean_dice
    >>> values = {("a", "liver"): 0.9, ("b", "liver"): 0.7, ("a", "tumor"): 0.4, ("b", "tumor"): None}
    >>> round(mean_dice([Score(case, name, "dice", value, "ok") for (case, name), value in values.items()]), 3)
    0.6
    """
    by_class: dict[str, list[float]] = {}
    for score in scores:
        if score.metric == "dice" and score.value is not None:
            by_class.setdefault(score.class_name, []).append(score.value)
    return float(np.mean([np.mean(values) for values in by_class.values()])) if by_class else None


def scores_frame(loss: str, fold: int | Mapping[str, int], seed: int, scores: Iterable[Score]) -> pd.DataFrame:
    """Return scores as rows of the long table.

    Parameters
    ----------
    loss, seed
        Loss and seed of the training.
    fold
        Fold of the training, or the fold of each case.
    scores
        Scores of the cases that the training, or the training of their fold, did not see.
    """
    frame = pd.DataFrame([asdict(score) for score in scores], columns=[field.name for field in fields(Score)])
    frame = frame.rename(columns={"class_name": "class"}).astype({"tolerance_mm": "float64"})
    frame.insert(0, "loss", loss)
    frame.insert(1, "fold", frame["case"].map(fold).astype(int) if isinstance(fold, Mapping) else fold)
    frame.insert(2, "seed", seed)
    return frame[list(COLUMNS)]


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write the table as UTF-8 CSV, atomically; floats in their shortest exact form."""
    write_text(path, csv_text(frame))


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV in which no name is a formula of a spreadsheet."""
    names = {name: _renamed(frame[name], _defused) for name in NAMES if name in frame.columns}
    return str(frame.assign(**names).to_csv(index=False, lineterminator="\n"))


def with_plain_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was read from such CSV with its original names."""
    names = {name: _renamed(frame[name], _without_apostrophe) for name in NAMES if name in frame.columns}
    return frame.assign(**names)


def _renamed(names: "pd.Series[str]", rename: Callable[[str], str]) -> "pd.Series[str]":
    """Return a column with its names changed; each different name is looked at once, however many rows there are."""
    changed = {name: rename(name) for name in names.unique() if isinstance(name, str) and rename(name) != name}
    return names.replace(changed) if changed else names


def _defused(name: str) -> str:
    return f"'{name}" if name.lstrip("'").startswith(FORMULA) else name


def _without_apostrophe(name: str) -> str:
    return name[1:] if name.startswith("'") and name.lstrip("'").startswith(FORMULA) else name


def read_table(path: Path) -> pd.DataFrame:
    """Return the table with text columns as strings.

    Raises
    ------
    RecordError
        Where the file cannot be read, or a column is missing that every table needs.
    """
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
