"""A study folder with its records written by hand: two losses, two folds, two classes, four cases."""

import json
from pathlib import Path

from pipeline.records.events import StateCounts, SystemEvent, TrainEvent, ValidationEvent, append_event
from pipeline.records.folder import RunFolder, RunKey, StudyFolder
from pipeline.records.table import Score, scores_frame, write_table

LOSSES = ("dice_ce", "weighted_ce-weights=inverse")
CLASSES = ("head", "tail (left)")
STEPS = 40
DICE = {LOSSES[0]: 0.9, LOSSES[1]: 0.7}


def begin_study(root: Path, name: str = "hearts: a vs b", created: str = "2026-01-02T03:04:05+00:00") -> StudyFolder:
    study = StudyFolder(root)
    root.mkdir(parents=True)
    settings = {
        "schema": 1,
        "segloss": "0.1.0",
        "name": name,
        "created": created,
        "request": {"dataset": "/data/Ms Miller/hearts", "losses": ",".join(LOSSES)},
        "command": f"whichloss study '/data/Ms Miller/hearts' --out {root}",
        "dataset": {
            "path": "/data/Ms Miller/hearts",
            "name": "hearts",
            "cases": 4,
            "channels": ["MRI"],
            "classes": {"0": "background", "1": CLASSES[0], "2": CLASSES[1]},
        },
        "losses": [{"name": label, "label": label, "spec": label, "formula": f"of {label}"} for label in LOSSES],
        "folds": 2,
        "seeds": [0],
        "budget": {"asked": "40steps", "steps": STEPS},
        "optimizer": "Muon and AdamW",
        "precision": "float32",
        "plan": {"patch": [16, 16, 16]},
        "versions": {"python": "3.11"},
        "cases": {
            f"miller_{i}": {"images": [f"/data/Ms Miller/{i}.nii.gz"], "label": None, "patient": "Ms Miller"}
            for i in range(4)
        },
        "runs": [{"loss": loss, "fold": fold, "seed": 0} for fold in range(2) for loss in LOSSES],
    }
    study.settings.write_text(json.dumps(settings))
    return study


def write_events(study: StudyFolder, loss: str, fold: int, until: int = STEPS, since: int = 0) -> RunFolder:
    """Append training points every ten steps and a validation every twenty."""
    run = study.run(RunKey(loss, fold, 0))
    for step in range(since + 10, until + 1, 10):
        seconds = step * 0.25
        training = TrainEvent(step=step, loss=1 / step, learning_rate=0.01, gradient_norm=float("nan"), seconds=seconds)
        append_event(run.events, training)
        if step % 20 == 0:
            dice = DICE[loss] * step / STEPS
            validation = ValidationEvent(
                step=step,
                seconds=seconds,
                dice=dict.fromkeys(CLASSES, dice),
                hausdorff_mm=dict.fromkeys(CLASSES, float("inf")),
                hausdorff95_mm=dict.fromkeys(CLASSES, 2.5),
                mean_dice=dice,
                counts=StateCounts(ok=3, missed=1),
            )
            append_event(run.events, validation)
            append_event(run.events, SystemEvent(step=step, cpu_percent=99.0, memory_mb=512.0))
    return run


def finish_run(study: StudyFolder, loss: str, fold: int, since: int = 0) -> RunFolder:
    run = write_events(study, loss, fold, since=since)
    cases = [f"miller_{2 * fold}", f"miller_{2 * fold + 1}"]
    scores = [
        Score(case, name, metric, value, "ok")
        for case in cases
        for name in CLASSES
        for metric, value in (("dice", DICE[loss]), ("hausdorff_mm", 4.0 + fold), ("hausdorff95_mm", 2.0))
    ]
    write_table(run.cases, scores_frame(loss, fold, 0, scores))
    run.checkpoint.write_bytes(b"weights")
    record = {
        "loss": loss,
        "fold": fold,
        "seed": 0,
        "state": "ok",
        "why": None,
        "learning_rate": 0.01,
        "steps": STEPS,
        "seconds": 12.0,
        "training_seconds": 10.0,
        "precision": "float32",
        "feed_hash": "ab12",
        "cases": cases,
        "mean_dice": DICE[loss],
    }
    run.record.write_text(json.dumps(record))
    return run


def whole_study(root: Path, **settings: str) -> StudyFolder:
    study = begin_study(root, **settings)
    for fold in range(2):
        for loss in LOSSES:
            finish_run(study, loss, fold)
    study.verdict.write_text(json.dumps({"verdict": "winner", "recommended": LOSSES[0], "primary": "dice"}))
    study.report.write_text("<html>report</html>")
    return study
