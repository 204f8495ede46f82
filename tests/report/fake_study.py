"""A small study on disk with made-up results: real images, masks and metrics, no training."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.table import Score, scores_frame, write_table

METRICS = ("dice", "hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd", "sensitivity", "precision")
CLASSES = {1: "Anterior", 2: "Posterior"}
SPACING_MM = (1.0, 1.2, 2.0)


def write_fake_study(
    root: Path,
    *,
    losses=("dice", "dice_ce", "weighted_ce"),
    noise=(0.9, 0.8, 1.5),
    folds=3,
    seeds=2,
    cases=12,
    size=28,
    collapsed=(),
    unfinished=(),
    missed=(),
    absent=(),
    invented=(),
    prefix="case",
    command="whichloss study DATASET --losses dice,dice_ce,weighted_ce --folds 3 --seeds 2 --out STUDY",
) -> StudyFolder:
    """Write a whole study folder; `collapsed` and `unfinished` hold (loss, fold, seed).

    Collapsed runs hold the values of a miss.

    `missed` holds (loss, number of a case) without any prediction, `absent` numbers of cases without Posterior, and
    `invented` (loss, number) where Posterior is found all the same.
    """
    study = StudyFolder(root / "study")
    names = [f"{prefix}_{i:02d}" for i in range(cases)]
    data = {name: _write_case(root / "data", name, i, size, i in absent) for i, name in enumerate(names)}
    runs = [(loss, fold, seed) for seed in range(seeds) for fold in range(folds) for loss in losses]
    settings = {
        "schema": 1,
        "segloss": "0.1.0",
        "name": f"Phantoms: {' vs '.join(losses)}",
        "created": "2026-01-02T03:04:05+00:00",
        "command": command,
        "dataset": {
            "path": "DATASET",
            "name": "Phantoms",
            "cases": cases,
            "channels": ["MRI"],
            "classes": {"0": "background", "1": "Anterior", "2": "Posterior"},
        },
        "losses": [{"name": loss, "label": loss, "spec": loss, "formula": "1 - 2 Σpt / (Σp + Σt)"} for loss in losses],
        "folds": folds,
        "seeds": list(range(seeds)),
        "budget": {"asked": "800steps", "steps": 800},
        "learning_rates": [0.001, 0.003, 0.008],
        "optimizer": "Muon and AdamW",
        "precision": "bfloat16",
        "machine": {"device": "cpu", "jobs": 2, "threads": 1},
        "plan": {
            "channels": [16, 32, 64],
            "patch": [24, 28, 20],
            "batch": 2,
            "reasons": {"spacing_mm": "1 x 1.2 x 2 mm: the median of all cases", "patch": "holds a whole volume"},
        },
        "versions": {"python": "3.11.7", "torch": "2.13.0", "monai": "1.6.1"},
        "cases": {name: entry["paths"] for name, entry in data.items()},
        "runs": [{"loss": loss, "fold": fold, "seed": seed} for loss, fold, seed in runs],
    }
    study.root.mkdir(parents=True)
    study.settings.write_text(json.dumps(settings))
    for loss, fold, seed in runs:
        folder = study.run(RunKey(loss, fold, seed))
        folder.root.mkdir(parents=True)
        random = np.random.default_rng([losses.index(loss), fold, seed])
        done = (loss, fold, seed) not in unfinished
        fallen = (loss, fold, seed) in collapsed
        _write_events(folder.events, random, losses.index(loss), 800 if done else 300)
        if not done:
            continue
        held_out = names[fold::folds]
        scores = []
        for name in held_out:
            reference = data[name]["label"]
            mask = _predict(reference, noise[losses.index(loss)], random)
            if (loss, names.index(name)) in missed:
                mask[:] = 0
            if (loss, names.index(name)) in invented:
                mask[:2, :2, :2] = 2
            image = nib.Nifti1Image(mask, data[name]["affine"])
            folder.predictions.mkdir(exist_ok=True)
            nib.save(image, folder.predictions / f"{name}.nii.gz")
            found = evaluate_case(name, reference, mask, SPACING_MM, PanelSettings(CLASSES, metrics=METRICS))
            scores += [_failed(score, reference.shape) for score in found] if fallen else found
        write_table(folder.cases, scores_frame(loss, fold, seed, scores))
        dice = [s.value for s in scores if s.metric == "dice" and s.value is not None]
        record = {
            "loss": loss,
            "fold": fold,
            "seed": seed,
            "state": "collapsed" if fallen else "ok",
            "why": "never predicts Anterior" if fallen else None,
            "notes": [],
            "learning_rate": [0.003, 0.008][losses.index(loss) % 2],
            "steps": 800,
            "seconds": 320.0 + 7 * fold,
            "training_seconds": 280.0,
            "precision": "bfloat16",
            "initial_weights_hash": f"{fold * 7 + seed:064x}",
            "feed_hash": f"{fold * 5 + seed + 11:032x}",
            "cases": held_out,
            "mean_dice": float(np.mean(dice)) if dice else None,
        }
        folder.record.write_text(json.dumps(record))
    return study


def _failed(score: Score, shape: tuple[int, ...]) -> Score:
    """Return the score of a collapsed run: overlap 0, distances the diagonal of the image."""
    diagonal_mm = float(np.linalg.norm(np.multiply(shape, SPACING_MM)))
    return replace(score, value=diagonal_mm if score.metric.endswith("_mm") else 0.0, state="collapsed")


def _write_case(folder: Path, name: str, seed: int, size: int, absent: bool) -> dict:
    """Two touching ellipsoids in noise, on a grid that is flipped for every other case."""
    random = np.random.default_rng([99, seed])
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")) - size / 2
    radius = np.array([0.17, 0.24, 0.17]) * size * random.uniform(0.8, 1.2, 3)
    inside = sum((grid[a] / radius[a]) ** 2 for a in range(3)) < 1
    label = np.where(inside, np.where(grid[1] > random.uniform(-1, 1), 1, 2), 0).astype(np.int16)
    if absent:
        label[label == 2] = 0
    image = ndimage.gaussian_filter(200.0 + 90 * (label > 0) + 40 * (label == 1), 0.7)
    image = (image + random.normal(0, 22, label.shape) + 1.5 * grid[0]).astype(np.float32)
    affine = np.diag([*(SPACING_MM if seed % 2 else (-SPACING_MM[0], *SPACING_MM[1:])), 1.0])
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"images": [str(folder / f"{name}.nii.gz")], "label": str(folder / f"{name}_label.nii.gz"), "patient": name}
    nib.save(nib.Nifti1Image(image, affine), paths["images"][0])
    nib.save(nib.Nifti1Image(label, affine), paths["label"])
    return {"paths": paths, "label": label, "affine": affine}


def _predict(label: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Move the borders of each class by smooth noise of about `noise` voxels."""
    away = ndimage.gaussian_filter(random.standard_normal(label.shape), 2.0)
    away *= noise / away.std()
    mask = np.zeros_like(label)
    for value in CLASSES:
        inside = label == value
        if not inside.any():
            continue
        signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        mask[signed + away > 0.5] = value
    return mask


def _write_events(path: Path, random: np.random.Generator, loss: int, until: int) -> None:
    events = [{"kind": "learning_rate_search", "candidates": [], "chosen": 0.003}]
    for step in range(10, until + 1, 10):
        share = step / 800
        events.append(
            {
                "kind": "train",
                "step": step,
                "loss": (1 + loss) * (0.15 + 0.8 * np.exp(-6 * share)) + 0.03 * (1 + loss) * random.standard_normal(),
                "learning_rate": 0.003 * min(share / 0.15, (1 - share) / 0.85 + 0.001),
                "gradient_norm": float(np.exp(random.normal(-0.5 - share, 0.3))),
                "gradient_norm_max": float(np.exp(random.normal(0, 0.4))),
                "logit_gradient_foreground": float(np.clip(0.2 + 0.4 * share + random.normal(0, 0.03), 0, 1)),
                "seconds": step * 0.3,
            }
        )
        if step % 160 == 0:
            dice = 0.88 - 0.5 * np.exp(-5 * share) - 0.02 * loss + 0.01 * random.standard_normal()
            distance = 2 + 8 * np.exp(-5 * share) + 0.3 * random.standard_normal()
            events.append(
                {
                    "kind": "validation",
                    "step": step,
                    "seconds": step * 0.3,
                    "mean_dice": dice,
                    "dice": {name: dice for name in CLASSES.values()},
                    "hausdorff_mm": {name: distance * 1.6 for name in CLASSES.values()},
                    "hausdorff95_mm": {name: distance for name in CLASSES.values()},
                    "counts": {"ok": 8, "missed": 0, "false_positive": 0, "correct_absence": 0},
                }
            )
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def column(table, name):
    """Return the texts of one column of a table of the report."""
    return [row[table.columns.index(name)].text for row in table.rows]
