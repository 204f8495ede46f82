"""The tables of a study, put together from its finished runs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.folder import RunFolder, StudyFolder
from pipeline.records.study import run_folders
from pipeline.records.table import BUDGET_COLUMNS, COLUMNS, read_table, with_plain_names


def gather_cases(study: StudyFolder) -> pd.DataFrame:
    """Return the rows of every run that has its record, ordered by loss as planned, then fold, seed and case."""
    return _gathered([run.cases for run in _finished_runs(study)], COLUMNS)


def gather_budgets(study: StudyFolder) -> pd.DataFrame:
    """Return the rows of every finished run at its smaller budgets, in the order of `gather_cases`.

    Columns: ``steps``, the budget in optimizer steps, then those of ``cases.csv``. Empty if there is one budget.
    """
    return _gathered([run.budgets for run in _finished_runs(study) if run.budgets.exists()], BUDGET_COLUMNS)


def _finished_runs(study: StudyFolder) -> list[RunFolder]:
    order: dict[str, int] = {}
    runs = []
    for run in run_folders(study):
        order.setdefault(run.key.loss, len(order))
        if run.record.exists():
            runs.append(run)
    return sorted(runs, key=lambda run: (order[run.key.loss], run.key.fold, run.key.seed))


def _gathered(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    frames = [read_table(path) for path in paths]
    if not frames:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(frames, ignore_index=True).reindex(columns=list(columns))


def gather_thresholds(study: StudyFolder) -> pd.DataFrame:
    """Return the Dice at each threshold of every run that has its record and left them; else an empty table.

    Columns: ``loss, fold, seed, case, class, threshold, dice``.
    """
    text = {"loss": str, "case": str, "class": str}
    paths = [run.thresholds for run in run_folders(study) if run.record.exists() and run.thresholds.exists()]
    frames = []
    for path in paths:
        try:
            frames.append(with_plain_names(pd.read_csv(path, dtype=text)))
        except (OSError, ValueError) as error:
            raise RecordError(path, f"cannot be read as CSV ({error})", "remove it: the report does without") from error
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*text, "threshold", "dice"])
