"""How the comparison of losses depends on the budget and on the optimizer.

    python benchmarks/budgets_and_optimizers.py budgets ../shared/data/hippocampus --work FOLDER
    python benchmarks/budgets_and_optimizers.py optimizers ../shared/data/hippocampus --work FOLDER
    python benchmarks/budgets_and_optimizers.py phantoms --work FOLDER

`budgets` prints mean Dice and differences of all losses after 100, 400 and 1,400 steps of one study.

`optimizers` prints mean Dice after 400 steps with Muon, AdamW, and nnU-Net's SGD (Nesterov momentum 0.99, polynomial
decay); each has its own search over learning rates.

`phantoms` prints the Dice of each training on volumes with about 33 voxels of foreground, after 200 and 800 steps with
each optimizer.

A stopped benchmark continues in the same folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.comparison.verdict import compare
from pipeline.data.phantoms.writing import make_phantoms
from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.study import read_study
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study

OPTIMIZERS = {
    "Muon": {},
    "AdamW": {"optimizer": "adamw"},
    "SGD": {"optimizer": "sgd", "schedule": "polynomial"},
}
LOSSES = "ce,dice,dice_ce,weighted_ce"


def main() -> None:
    """Carry out the studies of one table and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("budgets", "optimizers", "phantoms"))
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, required=True, help="folder of the studies")
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    {"budgets": budgets, "optimizers": optimizers, "phantoms": phantoms}[arguments.table](arguments)


def request_of(arguments: argparse.Namespace, name: str) -> StudyRequest:
    """Return the request that the studies of a table share."""
    return StudyRequest(
        dataset=arguments.dataset,
        out=arguments.work / name,
        losses=LOSSES,
        jobs=arguments.jobs,
        keep_predictions=False,
        cache=arguments.work / "prepared",
        budget="400steps",
    )


def budgets(arguments: argparse.Namespace) -> None:
    """Print mean Dice and the differences of all pairs at each budget."""
    request = replace(request_of(arguments, "budgets"), budget="", budgets="100,400,1400steps")
    study = run_study(request)
    largest = gather_cases(study).assign(steps=read_study(study).budget.steps)
    for steps, table in pd.concat([pd.read_csv(study.budgets), largest]).groupby("steps"):
        verdict = compare(table.drop(columns="steps"))
        print(f"{steps} steps: {verdict.verdict}, recommended {verdict.recommended}; mean Dice {means(table)}")
        for pair in verdict.pairs:
            if pair.metric in ("dice", "hausdorff95_mm"):
                unit = 100 if pair.metric == "dice" else 1
                low, middle, high = (unit * value for value in (pair.ci_low, pair.difference, pair.ci_high))
                print(f"    {pair.a} - {pair.b} {pair.metric}: {middle:+.2f} [{low:+.2f}, {high:+.2f}]")


def optimizers(arguments: argparse.Namespace) -> None:
    """Print mean Dice with each optimizer."""
    for name, parts in OPTIMIZERS.items():
        study = run_study(replace(request_of(arguments, name.lower()), **parts))
        verdict = compare(gather_cases(study))
        print(f"{name}: {verdict.verdict}, recommended {verdict.recommended}; mean Dice {means(gather_cases(study))}")


def phantoms(arguments: argparse.Namespace) -> None:
    """Print the Dice of each training on small structures."""
    arguments.dataset = arguments.work / "phantoms"
    if not (arguments.dataset / "dataset.json").exists():
        make_phantoms(arguments.dataset, 16, foreground_fraction=0.001, shape=(32, 32, 32))
    for name, parts in OPTIMIZERS.items():
        for steps in (200, 800):
            request = request_of(arguments, f"{name.lower()}_{steps}")
            request = replace(request, losses="ce,dice,dice_ce", folds=2, seeds=2, budget=f"{steps}steps", **parts)
            print(f"{name}, {steps} steps: {each_training(run_study(request))}")


def means(table: pd.DataFrame) -> str:
    """Return the mean Dice of each loss: over classes of the means over cases."""
    dice = table[table["metric"] == "dice"].groupby(["loss", "class"], sort=False)["value"].mean()
    return ", ".join(f"{loss} {value:.4f}" for loss, value in dice.groupby("loss", sort=False).mean().items())


def each_training(study: StudyFolder) -> str:
    """Return the mean Dice of each training of each loss."""
    table = gather_cases(study)
    dice = table[table["metric"] == "dice"].groupby(["loss", "fold", "seed"])["value"].mean()
    return "; ".join(
        f"{loss} " + ", ".join(f"{value:.2f}" for value in values) for loss, values in dice.groupby("loss")
    )


if __name__ == "__main__":
    main()
