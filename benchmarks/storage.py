"""Bytes and files that a study stores per case and run, measured on one study and scaled to a planned one.

    python benchmarks/storage.py STUDY [--cases 100000 --losses 3 --folds 5 --seeds 3]

Prints both as Markdown tables.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from pipeline.records.folder import StudyFolder
from pipeline.records.study import read_study, run_folders


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes of all files."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--losses", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    study = StudyFolder(arguments.study)
    record = read_study(study)
    runs = [run for run in run_folders(study) if run.record.exists()]
    cases, folds = len(record.cases), record.folds
    held_out = len(runs) * cases / folds  # predicted pairs of case and run
    prepared = [path for path in (study.root / "prepared").glob("*/*") if path.parent.name != "checked"]
    masks = [path for run in runs for path in run.predictions.glob("*")]

    planned_runs = arguments.losses * arguments.folds * arguments.seeds
    predicted = arguments.losses * arguments.seeds * arguments.cases
    # item, bytes of each, number, files of each
    rows = [
        ("prepared case (`prepared/`)", size_of(prepared) / cases, arguments.cases, len(prepared) / cases),
        ("settings and fingerprint, per case", size_of([study.settings, study.fingerprint]) / cases,
         arguments.cases, 0),
        ("masks, per predicted case", size_of(masks) / held_out, predicted, len(masks) / held_out),
        ("`cases.csv` of runs, per predicted case", size_of(run.cases for run in runs) / held_out, predicted, 0),
        ("`cases.csv` of the study, per predicted case", size_of([study.cases]) / held_out, predicted, 0),
        ("`thresholds.csv`, per predicted case", size_of(run.thresholds for run in runs) / held_out, predicted, 0),
        ("weights, events and record, per run",
         size_of(path for run in runs for path in (run.checkpoint, run.events, run.record)) / len(runs),
         planned_runs, 5),
        ("MLflow's copy (files), per run", size_of((study.root / "mlartifacts").rglob("*")) / len(runs), planned_runs,
         sum(path.is_file() for path in (study.root / "mlartifacts").rglob("*")) / len(runs)),
    ]  # fmt: skip
    print(f"Measured: {cases} cases, {len(runs)} runs. Planned: {arguments.cases:,} cases, {planned_runs} runs.\n")
    print("| item | bytes each | number | total | files |\n|---|---|---|---|---|")
    total = files = 0.0
    for what, each, count, files_each in rows:
        total, files = total + each * count, files + files_each * count
        print(f"| {what} | {each:,.0f} | {count:,} | {each * count / 1e9:.2f} GB | {files_each * count:,.0f} |")
    print(f"| total | | | {total / 1e9:.1f} GB | {files:,.0f} |")


if __name__ == "__main__":
    main()
