"""Choose the best threshold of each loss on cases other than those on which it is judged.

Losses place their probabilities differently around 0.5. A loss that looks worse at 0.5 may only need another threshold,
which costs nothing. For every loss and class, the threshold is chosen on the cases of the other folds and judged on the
fold's own cases: a threshold chosen on the cases on which it is judged would flatter every loss, the noisiest most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records.states import State

Floats = NDArray[np.float64]

COLUMNS = ("loss", "fold", "seed", "case", "class", "threshold", "dice")
"""Columns of the table of thresholds."""

DEFAULT_THRESHOLD = 0.5

GROUPS_OF_PATIENTS = 5
"""Number of groups of patients that replace folds in a table with a single fold."""


@dataclass(frozen=True, slots=True)
class ChosenThresholds:
    """Thresholds of each loss, and its Dice at 0.5 and at these thresholds.

    Attributes
    ----------
    table
        Long table as for `compare`, with a column `point`: ``half`` (0.5) or ``best``.
    thresholds
        Columns loss, class, part, threshold; a part is a fold, or a group of patients.
    by
        What was excluded from the choice: the ``fold`` or the group of ``patients`` that is judged.
    edges
        Smallest and largest threshold of the grid.
    """

    table: pd.DataFrame
    thresholds: pd.DataFrame
    by: Literal["fold", "patients"]
    edges: tuple[float, float]


def choose_thresholds(thresholds: pd.DataFrame, patients: Mapping[str, str] | None = None) -> ChosenThresholds:
    """Choose for each loss, class and fold the threshold with the largest mean Dice over the cases of other folds.

    Parameters
    ----------
    thresholds
        Columns loss, fold, seed, case, class, threshold, dice: Dice of ``probability >= threshold`` against the
        reference of the class. An empty Dice is a correct absence, which counts as 1.
    patients
        Patient of each case; by default every case is a patient.

    Raises
    ------
    RecordError
        If a column is missing, a value is not a number, a threshold occurs twice, 0.5 is missing, or two losses have
        different grids.

    Examples
    --------
    >>> rows = [("ce", fold, 0, f"case{fold}", "organ", level, 1 - abs(level - 0.3))
    ...         for fold in range(3) for level in (0.3, 0.5, 0.7)]
    >>> choose_thresholds(pd.DataFrame(rows, columns=COLUMNS)).thresholds["threshold"].tolist()
    [0.3, 0.3, 0.3]
    """
    frame = _checked(thresholds)
    patient_of = {case: (patients or {}).get(case, case) for case in frame["case"].unique()}
    patient = frame["case"].map(patient_of)
    by: Literal["fold", "patients"] = "fold" if frame["fold"].nunique() > 1 else "patients"
    frame["part"] = frame["fold"] if by == "fold" else pd.factorize(patient, sort=True)[0] % GROUPS_OF_PATIENTS
    frame["patient"] = patient
    grid = np.sort(frame["threshold"].unique())
    frame["level"] = np.searchsorted(grid, frame["threshold"])
    frame["score"] = frame["dice"].fillna(1.0)
    chosen = _chosen_by_part(frame, grid)
    frame = frame.merge(chosen, on=["loss", "class", "part"], how="left", validate="many_to_one")
    half = frame[frame["threshold"] == DEFAULT_THRESHOLD].assign(point="half")
    best = frame[frame["level"] == frame["chosen_level"]].assign(point="best")
    table = pd.concat([half, best], ignore_index=True)
    state = np.where(table["dice"].isna(), State.CORRECT_ABSENCE.value, State.OK.value)
    table = table.assign(metric="dice", value=table["dice"], state=state)
    columns = ["loss", "fold", "seed", "case", "patient", "class", "metric", "value", "state", "point"]
    used = chosen.rename(columns={"chosen": "threshold"})[["loss", "class", "part", "threshold"]]
    return ChosenThresholds(table[columns], used, by, (float(grid[0]), float(grid[-1])))


def _chosen_by_part(frame: pd.DataFrame, grid: Floats) -> pd.DataFrame:
    """Return the best threshold of each loss, class and part over the cases of the other parts.

    Sums and counts over all parts, less those of a part itself, give the mean over the others in one pass.
    """
    sums = frame.groupby(["loss", "class", "part", "level"], sort=False)["score"].agg(["sum", "count"])
    # `argmax` returns the first of equal values: with levels ordered by their distance from 0.5, the nearest one.
    nearest = np.argsort(np.abs(grid - DEFAULT_THRESHOLD), kind="stable")
    chosen = []
    for (loss, name), part in sums.groupby(level=["loss", "class"], sort=False):
        wide = part.droplevel(["loss", "class"]).unstack("level")
        sum_of = wide["sum"].to_numpy(dtype=np.float64)
        count_of = wide["count"].to_numpy(dtype=np.float64)
        if len(wide["sum"].columns) != grid.size or np.isnan(sum_of).any():
            raise RecordError("thresholds", f"lack some of {loss}, class {name}", "give every threshold of every case")
        others = count_of.sum(axis=0) - count_of
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(others > 0, (sum_of.sum(axis=0) - sum_of) / others, -np.inf)
        # Rounding makes means equal that differ only by the order of summation. A part without other parts of its
        # class has only -inf, so that it keeps 0.5.
        ranked = np.round(means[:, nearest], 12)
        best = nearest[np.argmax(ranked, axis=1)]
        chosen += [
            (loss, name, key, float(grid[level]), int(level)) for key, level in zip(wide.index, best, strict=True)
        ]
    return pd.DataFrame(chosen, columns=["loss", "class", "part", "chosen", "chosen_level"])


def with_collapsed_runs(thresholds: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds with a Dice of 0 for the cases of collapsed runs that left none.

    Parameters
    ----------
    thresholds
        As for `choose_thresholds`.
    table
        The long table of the same study.
    """
    run = [name for name in ("loss", "fold", "seed") if name in table and name in thresholds]
    if "state" not in table or "loss" not in run or "class" not in table:
        return thresholds
    collapsed = table[(table["state"] == State.COLLAPSED) & (table["metric"] == "dice")]
    known = pd.MultiIndex.from_frame(thresholds[run].drop_duplicates())
    collapsed = collapsed[~pd.MultiIndex.from_frame(collapsed[run]).isin(known)]
    if collapsed.empty:
        return thresholds
    grid = pd.DataFrame({"threshold": np.sort(thresholds["threshold"].unique())})
    zeros = collapsed[[*run, "case", "class"]].merge(grid, how="cross").assign(dice=0.0)
    return pd.concat([thresholds, zeros], ignore_index=True)


def _checked(thresholds: pd.DataFrame) -> pd.DataFrame:
    """Return the needed columns with checked types and values."""
    missing = [name for name in COLUMNS if name not in thresholds]
    if missing:
        raise RecordError("thresholds", f"lack the column(s) {', '.join(missing)}", f"name them {', '.join(COLUMNS)}")
    frame = thresholds[list(COLUMNS)].copy()
    for name in ("loss", "case", "class"):
        frame[name] = frame[name].astype(str)
    for name in ("fold", "seed", "threshold", "dice"):
        try:
            frame[name] = pd.to_numeric(frame[name])
        except (ValueError, TypeError) as error:
            raise RecordError(
                "thresholds", f"have a value in {name} that is not a number ({error})", "correct the table"
            ) from error
    # 0.15000000000000002 of one tool and 0.15 of another are the same threshold.
    frame["threshold"] = frame["threshold"].round(6)
    if np.isinf(frame["dice"]).any():
        raise RecordError("thresholds", "have an infinite Dice", "correct the table")
    if frame.duplicated(list(COLUMNS[:-1])).any():
        raise RecordError(
            "thresholds", "have a threshold of one case twice", "give one row for each run, case, class and threshold"
        )
    if DEFAULT_THRESHOLD not in set(frame["threshold"]):
        raise RecordError("thresholds", "lack 0.5, at which losses are compared", "add 0.5 to the grid")
    return frame
