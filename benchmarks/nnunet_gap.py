"""Paired differences in Dice between a study and nnU-Net's own results on the same cases, at each budget.

    whichloss study ../shared/data/hippocampus --losses dice_ce --budgets 1min,5min,15min --out STUDY
    python benchmarks/nnunet_gap.py STUDY ../shared/data/nnunet_results/Dataset004_Hippocampus/NAME_OF_THE_ARM

Both predict each case by networks that did not see it. The unit is the case: the mean over classes of its Dice. The
table gives the mean difference in points with its 95 % t-interval over cases, each class alone, and how many cases lie
more than 5 points behind nnU-Net. nnU-Net's files hold no masks, so there are no surface distances.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.records.folder import StudyFolder
from pipeline.records.run import read_run
from pipeline.records.study import read_study, run_folders
from pipeline.trainers.nnunet.summary import class_names, read_summary

FAR_BEHIND = 5.0
"""Points of Dice by which a case is far behind."""


def main() -> None:
    """Print the differences of each loss and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("arm", type=Path, help="folder trainer__plans__configuration of nnU-Net")
    arguments = parser.parse_args()
    study = StudyFolder(arguments.study)
    yardstick = nnunet_dice(arguments.arm)
    for loss, steps, table in tables(study):
        print(row(loss, steps, table, yardstick))
    print(minutes(study))


def nnunet_dice(arm: Path) -> pd.DataFrame:
    """Return the Dice of each case and class of all folds of nnU-Net: cases as rows, classes as columns."""
    names = class_names(json.loads((arm / "dataset.json").read_text())["labels"])
    scores = [s for path in arm.glob("fold_*/validation/summary.json") for s in read_summary(path).scores(names)]
    dice = {(score.case, score.class_name): score.value for score in scores if score.metric == "dice"}
    return pd.Series(dice).unstack()


def tables(study: StudyFolder) -> list[tuple[str, int, pd.DataFrame]]:
    """Return the Dice of each loss and budget: cases as rows, classes as columns, means over seeds."""
    largest = pd.read_csv(study.cases).assign(steps=read_study(study).budget.steps)
    table = pd.concat([pd.read_csv(study.budgets), largest]) if study.budgets.exists() else largest
    table = table[table["metric"] == "dice"]
    return [
        (loss, steps, part.groupby(["case", "class"])["value"].mean().unstack())
        for (loss, steps), part in table.groupby(["loss", "steps"])
    ]


def row(loss: str, steps: int, ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Return the comparison of one loss at one budget."""
    theirs = theirs.loc[ours.index, ours.columns]
    difference = 100 * (ours - theirs)
    by_case = difference.mean(axis=1)
    half = stats.t.ppf(0.975, len(by_case) - 1) * by_case.std(ddof=1) / np.sqrt(len(by_case))
    classes = ", ".join(f"{name} {mean:+.2f}" for name, mean in difference.mean().items())
    return (
        f"{loss:>12} {steps:>6} steps: Dice {ours.mean(axis=None):.4f}, nnU-Net {theirs.mean(axis=None):.4f}, "
        f"difference {by_case.mean():+.2f} points [{by_case.mean() - half:+.2f}, {by_case.mean() + half:+.2f}] over "
        f"{len(by_case)} cases ({classes}); {int((by_case < -FAR_BEHIND).sum())} cases more than {FAR_BEHIND:g} behind"
    )


def minutes(study: StudyFolder) -> str:
    """Return the mean time of a training of the largest budget."""
    records = [read_run(folder) for folder in run_folders(study)]
    seconds = [record.training_seconds for record in records if record is not None and record.training_seconds]
    return f"time of a training of the largest budget: {np.mean(seconds) / 60:.1f} minutes over {len(seconds)} runs"


if __name__ == "__main__":
    main()
