"""The tables of a study, put together from its finished runs."""

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.study import run_folders
from pipeline.records.table import COLUMNS, read_table, with_plain_names


def gather_cases(study: StudyFolder) -> pd.DataFrame:
    """Return the rows of every run that has its record, ordered by loss as planned, then fold, seed and case."""
    order: dict[str, int] = {}
    runs = []
    for run in run_folders(study):
        order.setdefault(run.key.loss, len(order))
        if run.record.exists():
            runs.append(run)
    runs.sort(key=lambda run: (order[run.key.loss], run.key.fold, run.key.seed))
    frames = [read_table(run.cases) for run in runs]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS))


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
