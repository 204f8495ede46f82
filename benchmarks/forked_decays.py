"""Difference between a decay forked from a longer training and a separate training of the same length.

    python benchmarks/forked_decays.py ../shared/data/hippocampus --work FOLDER [--budgets 100,200,400,800steps]

One study evaluates each run at several budgets. For each budget, another study trains the same runs separately, with
the schedule of a study with one budget and a search over learning rates of its own. The unit is one training: loss x
seed x fold. The table gives the mean over all trainings of the difference in mean Dice, with the 95 % t-interval over
trainings, and the time of the runs with several budgets relative to that of separate trainings of the largest one.

A stopped benchmark continues in the same folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.records.folder import StudyFolder
from pipeline.records.run import read_run
from pipeline.records.study import run_folders
from pipeline.study.budget import Budgets
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study


def main() -> None:
    """Carry out the studies and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the studies")
    parser.add_argument("--budgets", default="100,200,400,800steps")
    parser.add_argument("--losses", default="ce,dice,dice_ce")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    request = StudyRequest(
        dataset=arguments.dataset,
        out=arguments.work / "forked",
        losses=arguments.losses,
        folds=arguments.folds,
        seeds=arguments.seeds,
        budgets=arguments.budgets,
        jobs=arguments.jobs,
        keep_predictions=False,
        cache=arguments.work / "prepared",
    )
    budgets = Budgets.parse("", arguments.budgets)
    forked = run_study(request)
    for budget in (*budgets.smaller, budgets.largest):
        separate = run_study(replace(request, out=arguments.work / budget.text, budget=budget.text, budgets=""))
        print(row(budget.text, forked, separate), flush=True)
    ratio = seconds(forked) / seconds(separate)
    print(f"time of the runs with all budgets, relative to those of {budgets.largest.text} alone: {ratio:.2f}")


def row(budget: str, forked: StudyFolder, separate: StudyFolder) -> str:
    """Return the mean Dice of both kinds of training at one budget, and their difference with its interval."""
    ours, theirs = dice_at(forked, budget), dice_of(pd.read_csv(separate.cases))
    differences = 100 * (ours - theirs.loc[ours.index])
    mean = differences.mean()
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return (
        f"{budget:>10}: forked {ours.mean():.4f}, separate {theirs.mean():.4f}, difference {mean:+.2f} points "
        f"[{mean - half:+.2f}, {mean + half:+.2f}] over {len(differences)} trainings"
    )


def dice_at(forked: StudyFolder, budget: str) -> "pd.Series[float]":
    """Return the mean Dice of each training at one of its budgets."""
    table = pd.read_csv(forked.budgets)
    table = table[table["steps"] == int(budget.removesuffix("steps"))]
    return dice_of(table if len(table) else pd.read_csv(forked.cases))


def dice_of(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the mean Dice of each training: over classes of the means over cases."""
    by_class = table[table["metric"] == "dice"].groupby(["loss", "seed", "fold", "class"])["value"].mean()
    return by_class.groupby(["loss", "seed", "fold"]).mean()


def seconds(study: StudyFolder) -> float:
    """Return the time of all runs of a study, in seconds."""
    records = [read_run(folder) for folder in run_folders(study)]
    return sum(record.seconds or 0.0 for record in records if record is not None)


if __name__ == "__main__":
    main()
