"""Measure how wrong a study is that takes organs which were not drawn for absent ones.

    python benchmarks/partial_labels.py ../shared/data/openkbp OUT [--budget 60s] [--folds 2] [--losses ce,dice,...]

Two studies with the same folds are carried out under OUT, or continued: *absent* as if every organ without a voxel were
absent, and *unknown* with the `annotated.json` of the dataset. Three answers are printed for each loss, as the mean
Dice over classes: that of *absent* on its own terms, where each prediction of an organ that was not drawn is a false
positive; that of the same masks on the annotated organs alone; and that of *unknown*. The difference of the last two,
in points with its 95 % interval over patients, is what the right training gains. The verdicts are printed too.
"""

import argparse
import csv
import json
from pathlib import Path

import pandas as pd

from pipeline.comparison.verdict import compare
from pipeline.records.folder import StudyFolder
from pipeline.records.pair_result import PairResult, pair_of
from pipeline.records.states import State
from pipeline.records.table import read_table
from pipeline.records.verdict import Verdict
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study

ANSWERS = ("absent", "unknown")


def main() -> None:
    """Carry out both studies and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--losses", default="ce,dice,dice_ce,weighted_ce")
    parser.add_argument("--rate", type=float, help="one learning rate instead of a search")
    options = parser.parse_args()
    absent, unknown = (read_table(carry_out(options, answer).cases) for answer in ANSWERS)
    annotated = unknown.loc[unknown["state"] != State.NOT_ANNOTATED, ["case", "class"]].drop_duplicates()
    same_masks = absent.merge(annotated, on=["case", "class"])
    both = pd.concat([same_masks.assign(loss=same_masks["loss"] + " absent"), unknown], ignore_index=True)
    verdicts = {"absent": compare(absent), "absent, annotated": compare(same_masks), "unknown": compare(unknown)}
    pairs = compare(both).pairs
    print(f"{'loss':>14}" + "".join(f"{name:>20}" for name in verdicts) + f"{'gain in points':>28}")
    for loss in options.losses.split(","):
        means = "".join(f"{dice(verdict, loss):20.4f}" for verdict in verdicts.values())
        print(f"{loss:>14}{means}{points(pair_of(pairs, loss, f'{loss} absent')):>28}")
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict.verdict}, {', '.join(verdict.candidates)}")


def points(pair: PairResult | None) -> str:
    """Return a difference in points with its interval."""
    if pair is None:
        return "not compared"
    low, high = 100 * pair.ci_low, 100 * pair.ci_high
    return f"{100 * pair.difference:+.2f} [{low:+.2f}, {high:+.2f}]"


def dice(verdict: Verdict, loss: str) -> float:
    """Return the mean Dice of a loss, NaN without one."""
    found = verdict.result_of(loss)
    return float("nan") if found is None or "dice" not in found.metrics else found.metrics["dice"].mean


def carry_out(options: argparse.Namespace, answer: str) -> StudyFolder:
    """Carry out, or continue, the study with one answer."""
    request = StudyRequest(
        dataset=write_list(options.data, options.out / answer, answer == "unknown", options.folds),
        out=options.out / answer / "study",
        losses=options.losses,
        budget=options.budget,
        folds=options.folds,
        learning_rates=None if options.rate is None else (options.rate,),
        absent_means="absent" if answer == "absent" else None,
        track=False,
    )
    return run_study(request)


def write_list(data: Path, folder: Path, with_annotated: bool, folds: int) -> Path:
    """Write the list of cases with folds that are the same for both studies, and the names of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    description = json.loads((data / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description))
    annotated = json.loads((data / "annotated.json").read_text())
    with (folder / "cases.csv").open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["image", "label", "case", "fold", *(["annotated"] if with_annotated else [])])
        for index, entry in enumerate(description["training"]):
            image, label = ((data / entry[key]).resolve() for key in ("image", "label"))
            case = image.name.removesuffix(".nii.gz")
            row = [image, label, case, index % folds]
            writer.writerow([*row, "|".join(annotated[case])] if with_annotated else row)
    return folder / "cases.csv"


if __name__ == "__main__":
    main()
