"""Measure seconds and peak memory of `whichloss compare` and `whichloss report` for studies with very many cases.

    python benchmarks/records_at_scale.py [--cases 20000] [--losses 3 --folds 5 --seeds 3] [--json FILE]

Writes the records of a finished study with simulated values. Size and format are those of a real study: twelve metrics
of two classes for each case, 19 thresholds, events of 300 steps. Each command runs in its own process.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from peak import measured

from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.table import csv_text

CLASSES = ("Anterior", "Posterior")
SHARES = ("dice", "iou", "sensitivity", "precision", "volume_error", "nsd", "ece", "brier")
LENGTHS = ("volume_error_ml", "hausdorff_mm", "hausdorff95_mm", "assd_mm")
THRESHOLDS = np.round(np.arange(1, 20) * 0.05, 2)


def write_study(root: Path, cases: int, losses: int, folds: int, seeds: int) -> StudyFolder:
    """Write the records of a finished study and return its folder."""
    study = StudyFolder(root)
    names = [f"case_{index:06d}" for index in range(cases)]
    labels = [("dice", "dice_ce", "weighted_ce")[i] if i < 3 else f"loss_{i}" for i in range(losses)]
    keys = [RunKey(loss, fold, seed) for seed in range(seeds) for fold in range(folds) for loss in labels]
    root.mkdir(parents=True)
    settings = {
        "schema": 1,
        "segloss": "0",
        "name": "made up",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "segloss study DATASET --out STUDY",
        "dataset": {"path": "DATASET", "name": "made up", "cases": cases, "channels": ["MRI"], "classes": {}},
        "losses": [{"name": label, "label": label, "spec": label, "formula": ""} for label in labels],
        "folds": folds,
        "seeds": list(range(seeds)),
        "budget": {"asked": "300steps", "steps": 300},
        "learning_rates": [0.004],
        "precision": "float32",
        "machine": {"device": "cpu", "jobs": 2, "threads": 1},
        "plan": {"reasons": {}},
        "versions": {},
        "cases": {
            name: {"images": [f"/data/{name}.nii.gz"], "label": f"/data/{name}_label.nii.gz", "patient": name}
            for name in names
        },
        "runs": [{"loss": key.loss, "fold": key.fold, "seed": key.seed} for key in keys],
    }
    study.settings.write_text(json.dumps(settings))
    easy = np.random.default_rng(0).normal(0.85, 0.04, (cases, len(CLASSES)))
    for key in keys:
        _write_run(study, key, names, easy, labels.index(key.loss), folds)
    study.cases.write_text(csv_text(gather_cases(study)))
    return study


def _write_run(study: StudyFolder, key: RunKey, names: list[str], easy: np.ndarray, loss: int, folds: int) -> None:
    folder = study.run(key)
    folder.root.mkdir(parents=True)
    random = np.random.default_rng([loss, key.fold, key.seed])
    held_out = np.arange(key.fold, len(names), folds)
    shape = (held_out.size, len(CLASSES))
    dice = np.clip(easy[held_out] - 0.004 * loss + random.normal(0, 0.003) + random.normal(0, 0.01, shape), 0, 1)
    values = {name: dice if name == "dice" else np.clip(dice + random.normal(0, 0.01, shape), 0, 1) for name in SHARES}
    values |= {name: 3 - 2 * dice + random.gamma(2, 0.3, shape) for name in LENGTHS}
    metrics = [*SHARES, *LENGTHS]
    cube = np.stack([values[name] for name in metrics], axis=-1)
    who = {"loss": key.loss, "fold": key.fold, "seed": key.seed}
    case = np.asarray(names, dtype=object)[held_out]
    frame = pd.DataFrame({
        **who,
        "case": np.repeat(case, len(CLASSES) * len(metrics)),
        "class": np.tile(np.repeat(CLASSES, len(metrics)), held_out.size),
        "metric": np.tile(metrics, held_out.size * len(CLASSES)),
        "value": cube.ravel(),
        "state": "ok",
    })  # fmt: skip
    frame.to_csv(folder.cases, index=False)
    curve = dice[:, :, None] - 0.3 * (THRESHOLDS - 0.45) ** 2
    pd.DataFrame({
        **who,
        "case": np.repeat(case, len(CLASSES) * THRESHOLDS.size),
        "class": np.tile(np.repeat(CLASSES, THRESHOLDS.size), held_out.size),
        "threshold": np.tile(THRESHOLDS, held_out.size * len(CLASSES)),
        "dice": curve.ravel(),
    }).to_csv(folder.thresholds, index=False)  # fmt: skip
    events = [
        {"kind": "train", "step": step, "loss": 1 / step, "learning_rate": 0.004, "gradient_norm": 1.0,
         "seconds": float(step)}
        for step in range(10, 301, 10)
    ]  # fmt: skip
    folder.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    record = {
        **who,
        "state": "ok",
        "why": None,
        "notes": [],
        "learning_rate": 0.004,
        "steps": 300,
        "seconds": 300.0,
        "training_seconds": 280.0,
        "precision": "float32",
        "initial_weights_hash": f"{key.fold:064x}",
        "feed_hash": f"{key.fold:032x}",
        "cases": [names[i] for i in held_out],
        "mean_dice": float(dice.mean()),
    }
    folder.record.write_text(json.dumps(record))


def main() -> None:
    """Write a study, measure both commands, and print times, memory and sizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--losses", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "study"
        study = write_study(root, arguments.cases, arguments.losses, arguments.folds, arguments.seeds)
        sizes = {path.name: path.stat().st_size for path in (study.settings, study.cases)}
        sizes["runs"] = sum(path.stat().st_size for path in (root / "runs").rglob("*") if path.is_file())
        commands = {}
        for command, subject in (("compare", study.cases), ("report", root)):
            verdict = ["--json"] if command == "compare" else []
            took = measured([sys.executable, "-m", "pipeline", command, str(subject), *verdict])
            commands[command] = {key: value for key, value in asdict(took).items() if key != "output"}
            print(
                f"{command:8} {took.seconds:8.1f} s  {took.cpu_seconds:8.1f} s CPU  {took.peak_mib:8.0f} MiB",
                flush=True,
            )
        sizes["report.html"] = study.report.stat().st_size
        print(", ".join(f"{key} {value / 1e6:.1f} MB" for key, value in sizes.items()))
    if arguments.json:
        request = {key: value for key, value in vars(arguments).items() if key != "json"}
        arguments.json.write_text(json.dumps({**request, "commands": commands, "bytes": sizes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
