"""Results folders of nnU-Net v2, written by hand: small counts of voxels for made-up cases."""

import json
from collections.abc import Sequence
from pathlib import Path

LABELS = {"background": 0, "liver": 1, "tumor": 2}
PLANS = {
    "plans_name": "nnUNetPlans",
    "configurations": {
        "3d_lowres": {
            "spacing": [2.0, 1.5, 1.5],
            "patch_size": [32, 48, 48],
            "batch_size": 2,
            "architecture": {"arch_kwargs": {"features_per_stage": [32, 64]}},
        },
        "3d_fullres": {"inherits_from": "3d_lowres", "patch_size": [64, 96, 96]},
    },
}


def counts(reference: int, prediction: int, both: int) -> dict[str, float]:
    """What nnU-Net writes of one class of one case; Dice and IoU of two empty masks are NaN."""
    union = reference + prediction - both
    return {
        "Dice": 2 * both / (reference + prediction) if union else float("nan"),
        "IoU": both / union if union else float("nan"),
        "TP": both,
        "FP": prediction - both,
        "FN": reference - both,
        "TN": 10_000 - union,
        "n_pred": prediction,
        "n_ref": reference,
    }


def write_arm(
    dataset: Path,
    trainer: str,
    *,
    folds: int = 2,
    cases: int = 8,
    both: int = 80,
    plans: str = "nnUNetPlans",
    epochs: int = 4,
    labels: dict[str, object] | None = None,
    classes: Sequence[str] = ("1", "2"),
    name: str = "case_{}",
) -> Path:
    """Write one arm; case i is in fold i modulo `folds`, and the structures of case 0 are absent and unpredicted."""
    arm = dataset / f"{trainer}__{plans}__3d_fullres"
    for fold in range(folds):
        validation = arm / f"fold_{fold}" / "validation"
        validation.mkdir(parents=True)
        entries = []
        for case in range(fold, cases, folds):
            size = 100 * (case > 0)
            overlap = min(both + case, 100) * (case > 0)
            entries.append(
                {
                    "metrics": {name: counts(size, size, overlap) for name in classes},
                    "prediction_file": f"./validation/{name.format(case)}.nii.gz",
                    "reference_file": f"/data/gt_segmentations/{name.format(case)}.nii.gz",
                }
            )
        (validation / "summary.json").write_text(json.dumps({"metric_per_case": entries, "mean": {}}))
        rows = [f"{0.1 * e},{0.1 * e},0,{1 / (e + 1)},0,0.01,{10 * e},{10 * e + 5},{e}" for e in range(epochs)]
        header = "mean_fg_dice,ema_fg_dice,dice_per_class_or_region,train_losses,val_losses,lrs,"
        header += "epoch_start_timestamps,epoch_end_timestamps,Epoch"
        (arm / f"fold_{fold}" / "progress.csv").write_text("\n".join([header, *rows]) + "\n")
    description = {"name": "Livers", "labels": labels or LABELS, "channel_names": {"0": "CT"}, "numTraining": cases}
    (arm / "dataset.json").write_text(json.dumps(description))
    (arm / "plans.json").write_text(json.dumps(PLANS))
    return arm
