"""The long table of a study, put together from its finished runs."""

import pandas as pd

from pipeline.records.folder import StudyFolder
from pipeline.records.table import COLUMNS, read_table


def gather_cases(study: StudyFolder) -> pd.DataFrame:
    """Return the rows of every run that has its record, ordered by loss as planned, then fold, seed and case."""
    order: dict[str, int] = {}
    runs = []
    for run in study.runs():
        order.setdefault(run.key.loss, len(order))
        if run.record.exists():
            runs.append(run)
    runs.sort(key=lambda run: (order[run.key.loss], run.key.fold, run.key.seed))
    frames = [read_table(run.cases) for run in runs]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]
