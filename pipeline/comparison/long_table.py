"""Check the long table of results, and select the losses that it allows to compare."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.states import State

REQUIRED = ("loss", "case", "metric", "value")
"""Columns that every table has."""

DEFAULTS: dict[str, int | str] = {"fold": -1, "seed": 0, "class": "all", "state": State.OK.value}
"""Values for optional columns that are absent or empty."""

KEY = ["loss", "fold", "seed", "case", "class", "metric"]
"""Columns that identify a row."""


def usable_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the checked rows, and the number of collapsed runs of each loss.

    Rows of classes that were not annotated in a case are left out: there is nothing to compare.

    If every training predicted every case, as on an external test set, the folds are repeated trainings on one set of
    cases. They then become seeds of a single fold.

    Parameters
    ----------
    table
        Columns loss, case, metric, value; fold, seed, class, state and patient are optional.

    Raises
    ------
    RecordError
        If a column is missing, a value is not a number or infinite, a row occurs twice, or the fold of a case differs
        between losses or seeds.

    Examples
    --------
    >>> table = pd.DataFrame({"loss": ["ce", "dice"], "case": "a", "metric": "dice", "value": [0.8, 0.7]})
    >>> rows, collapsed = usable_rows(table)
    >>> rows["class"].tolist(), collapsed
    (['all', 'all'], {})
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise RecordError(
            "the table", f"lacks the column(s) {', '.join(missing)}", f"name the columns {', '.join(REQUIRED)}"
        )
    rows = _typed(table)
    rows = rows[rows["state"] != State.NOT_ANNOTATED]
    infinite = rows[np.isinf(rows["value"])]
    if len(infinite):
        one = infinite.iloc[0]
        raise RecordError(
            "value",
            f"is infinite in {len(infinite)} row(s), first {one['metric']} of case {one['case']}, loss {one['loss']}",
            "give a miss the diagonal of its image in mm",
        )
    repeated = rows[rows.duplicated(KEY)]
    if len(repeated):
        one = repeated.iloc[0]
        raise RecordError(
            "the table",
            f"has {one['metric']} of case {one['case']}, loss {one['loss']} twice",
            "distinguish repeated trainings by a column seed, and classes by a column class",
        )
    failed = rows[rows["state"] == State.COLLAPSED]
    runs = failed.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts(sort=False)
    return _with_one_fold_per_case(rows), {str(loss): int(count) for loss, count in runs.items()}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with all columns, names as text, and numbers as numbers."""
    rows = table.copy()
    for column, default in DEFAULTS.items():
        rows[column] = rows[column].fillna(default) if column in rows else default
    rows["patient"] = rows["patient"].fillna(rows["case"]) if "patient" in rows else rows["case"]
    for column in ("loss", "case", "class", "metric", "state", "patient"):
        rows[column] = rows[column].astype(str)
    for column in ("fold", "seed", "value"):
        try:
            rows[column] = pd.to_numeric(rows[column]).astype(float if column == "value" else int)
        except (ValueError, TypeError) as error:
            raise RecordError(column, f"has a value that is not a number ({error})", "correct the table") from error
    return rows


def _with_one_fold_per_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in which each case has one fold; folds that predict the same test set become seeds."""
    places = rows[["loss", "seed", "case", "fold"]].drop_duplicates()
    folds_of_case = places.drop_duplicates(["case", "fold"]).groupby("case")["fold"]
    if (folds_of_case.size() == 1).all():
        return rows
    trainings = places[["loss", "seed", "fold"]].drop_duplicates().groupby("loss").size()
    results = places.groupby(["loss", "case"]).size()
    extremes = results.groupby("loss").agg(["min", "max"])
    one_test_set = (extremes["min"] == trainings).all() and (extremes["max"] == trainings).all()
    if one_test_set:
        number = pd.factorize(pd.MultiIndex.from_frame(rows[["fold", "seed"]]), sort=True)[0]
        return rows.assign(seed=number, fold=0)
    case = str(folds_of_case.size().idxmax())
    folds = ", ".join(str(fold) for fold in sorted(folds_of_case.get_group(case)))
    raise RecordError(
        "fold",
        f"differs for one case: {case} is in the folds {folds}",
        "use the same folds for every loss and seed, or let every training of a test set predict all of its cases",
    )


def comparable_losses(rows: pd.DataFrame, collapsed: Mapping[str, int]) -> tuple[list[str], dict[str, str]]:
    """Return the losses that can be compared, and the others with the reason.

    Only cases that all losses share are compared. A loss with results for fewer than half of the cases would remove the
    other cases for every loss. It is therefore set aside: reported, but not compared.

    Parameters
    ----------
    rows
        From `usable_rows`.
    collapsed
        Number of collapsed runs of each loss.
    """
    total = rows["case"].nunique()
    covered = rows.groupby("loss", sort=False)["case"].nunique()
    set_aside = {name: "its runs collapsed and left no cases" for name in collapsed if name not in covered.index}
    for name, cases in covered.items():
        if cases < total / 2:
            set_aside[str(name)] = f"it has results for only {cases} of {total} cases"
    compared = [str(name) for name in covered.index if str(name) not in set_aside]
    if len(compared) < 2 <= len(covered):  # otherwise nothing could be compared: a few shared cases are better
        without_cases = {name: why for name, why in set_aside.items() if name not in covered.index}
        return [str(name) for name in covered.index], without_cases
    return compared, set_aside
