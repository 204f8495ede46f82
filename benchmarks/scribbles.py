"""Train losses on scribbles, score them on dense labels, and compare them with trainings on dense labels.

    python benchmarks/scribbles.py ../shared/data/acdc OUT [--budget 60s] [--folds 2] [--losses ce,dice,...]

Two studies with the same folds are carried out under OUT, or continued: one on `scribblesTr`, where about 1 % of the
voxels have a label and the others the ignore label 4, and one on `labelsTr`. The out-of-fold masks of both are scored
against `labelsTr`. The table gives for each loss the mean Dice of both and their difference in points, with its 95 %
interval over patients. By default every loss takes part that does not use distances.
"""

import argparse
import csv
import json
from pathlib import Path

import pandas as pd

from pipeline.comparison.verdict import compare
from pipeline.losses import CATALOGUE
from pipeline.losses.catalogue import USES_POSITIONS
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.records.folder import StudyFolder
from pipeline.records.pair_result import pair_of
from pipeline.records.run import read_run
from pipeline.records.study import run_folders
from pipeline.records.verdict import Verdict
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study

IGNORE = 4
COPIES = ("patient076",)
"""Patients whose images are those of another patient, 074."""

SUFFIX = {"scribblesTr": " on scribbles", "labelsTr": ""}


def main() -> None:
    """Carry out both studies and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--losses", default=",".join(name for name in CATALOGUE if name not in USES_POSITIONS))
    parser.add_argument("--rate", type=float, help="one learning rate instead of a search")
    options = parser.parse_args()
    tables = []
    for labels, suffix in SUFFIX.items():
        study = carry_out(options, labels)
        table = scores(study, options.data / "labelsTr")
        tables.append(table.assign(loss=table["loss"] + suffix))
    table = pd.concat(tables, ignore_index=True)
    patients = {case: case.partition("_")[0] for case in table["case"].unique()}
    verdict = compare(table.assign(patient=table["case"].map(patients)))
    print(f"{'loss':>18} {'dense':>8} {'scribbles':>10} {'difference in points':>28}")
    for loss in options.losses.split(","):
        pair = pair_of(verdict.pairs, f"{loss} on scribbles", loss)
        if pair is None:
            print(f"{loss:>18} not compared")
            continue
        dense, sparse = (dice(verdict, name) for name in (loss, f"{loss} on scribbles"))
        interval = f"{100 * pair.difference:+.2f} [{100 * pair.ci_low:+.2f}, {100 * pair.ci_high:+.2f}]"
        print(f"{loss:>18} {dense:8.4f} {sparse:10.4f} {interval:>28}")


def dice(verdict: Verdict, loss: str) -> float:
    """Return the mean Dice of a loss, NaN without one."""
    found = verdict.result_of(loss)
    return float("nan") if found is None or "dice" not in found.metrics else found.metrics["dice"].mean


def carry_out(options: argparse.Namespace, labels: str) -> StudyFolder:
    """Carry out, or continue, the study on one kind of label."""
    request = StudyRequest(
        dataset=write_list(options.data, options.out / labels, labels, options.folds),
        out=options.out / labels / "study",
        losses=options.losses,
        budget=options.budget,
        folds=options.folds,
        learning_rates=None if options.rate is None else (options.rate,),
        track=False,
    )
    return run_study(request)


def write_list(data: Path, folder: Path, labels: str, folds: int) -> Path:
    """Write the list of cases with folds that do not depend on the labels, and the names of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    description = json.loads((data / "dataset.json").read_text())
    names = description["labels"] | ({str(IGNORE): "ignore"} if labels == "scribblesTr" else {})
    (folder / "dataset.json").write_text(json.dumps(description | {"labels": names}))
    with (data / "cases.csv").open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["patient"] not in COPIES]
    patients = sorted({row["patient"] for row in rows})
    with (folder / "cases.csv").open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["image", "label", "case", "patient", "fold"])
        for row in rows:
            image = (data / row["image"]).resolve()
            label = (data / labels / Path(row["label"]).name).resolve()
            writer.writerow([image, label, row["case"], row["patient"], patients.index(row["patient"]) % folds])
    return folder / "cases.csv"


def scores(study: StudyFolder, references: Path) -> pd.DataFrame:
    """Return the metrics of the out-of-fold masks of a study against other references."""
    tables = []
    for folder in run_folders(study):
        record = read_run(folder)
        if record is None or not folder.predictions.exists():
            print(f"{folder.key.short_name}: no masks")
            continue
        found = evaluate_folders(references, folder.predictions, cases=record.cases, workers=1)
        tables.append(found.table(folder.key.loss, folder.key.fold, folder.key.seed))
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    main()
