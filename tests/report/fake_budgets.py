"""Add results at smaller budgets to a study on disk."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.records.folder import StudyFolder
from pipeline.records.study import run_folders
from pipeline.records.table import BUDGET_COLUMNS, read_table, write_table


def add_budgets(study: StudyFolder, behind: Mapping[int, Mapping[str, float]], noise: float = 0.002) -> None:
    """Write `budgets.csv` of each finished run: its results, `behind` by steps and loss in Dice, with little noise.

    Distances grow by 40 mm for each unit of Dice. The largest budget is that of the study.
    """
    settings = json.loads(study.settings.read_text())
    settings["budget"]["evaluated"] = [*sorted(behind), settings["budget"]["steps"]]
    study.settings.write_text(json.dumps(settings))
    for number, run in enumerate(run_folders(study)):
        if not run.record.exists():
            continue
        table = read_table(run.cases)
        parts = []
        for steps in sorted(behind):
            random = np.random.default_rng([number, steps])
            less = behind[steps].get(run.key.loss, 0.0) + noise * random.standard_normal(len(table))
            failed = (table["state"] == "collapsed").to_numpy()
            shares = ~table["metric"].str.endswith("_mm").to_numpy()
            value = table["value"].to_numpy() + np.where(failed, 0.0, np.where(shares, -less, 40 * np.abs(less)))
            parts.append(table.assign(steps=steps, value=np.where(shares, np.clip(value, 0, 1), value)))
        write_table(run.budgets, pd.concat(parts, ignore_index=True)[list(BUDGET_COLUMNS)])
