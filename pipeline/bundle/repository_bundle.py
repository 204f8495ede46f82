"""The ready bundle of the repository, ``bundles/segmentation_3d``: the same configurations with numbers on top.

``python -m pipeline.bundle.repository_bundle bundles/segmentation_3d`` writes its ``configs`` again; a test compares
the stored files with what this module returns.
"""

import sys
from pathlib import Path
from typing import Any

from pipeline.bundle import configs, training_configs
from pipeline.bundle.losses import LOSSES
from pipeline.bundle.metadata import metadata
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, Fingerprint
from pipeline.data.plan import Plan
from pipeline.system.files import write_json

PLAN = Plan(
    spacing_mm=(1.0, 1.0, 1.0),
    patch=(48, 48, 48),
    batch=2,
    normalisation=("zscore",),
    intensity_range=((0.0, 1.0),),
    intensity_mean=(0.0,),
    intensity_std=(1.0,),
    channels=(16, 32, 64, 128),
    strides=((2, 2, 2), (2, 2, 2), (2, 2, 2)),
    tolerance_mm=1.0,
    metrics=("dice", "hausdorff_mm"),
    reasons={},
)
DATA = "$@bundle_root + '/data'"
CLASSES = {1: "structure"}
SPEC = BundleSpec(
    name="segmentation_3d",
    channels=("image",),
    classes=CLASSES,
    several_files=False,
    spacing_mm=PLAN.spacing_mm,
    patch=PLAN.patch,
    overlap=0.25,
    batch=PLAN.batch,
    precision="float32",
    members=1,
    fingerprint=Fingerprint(cases=1, spacing_mm=(), shape=(), intensity=()),
    segments=default_segments(CLASSES),
)


def ready_configs() -> dict[str, Any]:
    """Return the content of each file of ``configs`` by name."""
    version = "0.1.0"
    inference = configs.inference(PLAN, SPEC)
    numbers = {"num_channels": 1, "num_classes": 2, "spacing_mm": [1.0, 1.0, 1.0], "patch": list(PLAN.patch)}
    inference = inference | {
        "network_def": inference["network_def"] | {"in_channels": "@num_channels", "out_channels": "@num_classes"},
        "inferer": inference["inferer"] | {"roi_size": "@patch"},
    }
    for step in inference["preprocessing"]["transforms"]:
        if step["_target_"] == "Spacingd":
            step["pixdim"] = "@spacing_mm"
    named = {
        "metadata": metadata(
            PLAN,
            None,
            version=version,
            task="3D segmentation with a choice of losses",
            description=(
                "A 3D U-Net for volumes in NIfTI, trained with one of the losses of configs/loss_*.json; it logs "
                "validation Dice and Hausdorff distance in mm. It holds no weights: train it first."
            ),
            channels=SPEC.channels,
            classes=CLASSES,
            evaluation={},
            data_source="yours: a folder with imagesTr, labelsTr and imagesTs",
            author="the authors of segloss",
        ),
        "inference": {**{name: inference[name] for name in ("imports", "bundle_root")}, **numbers, **inference},
        "train": training_configs.training(PLAN, SPEC, "dice_ce", {}),
        "evaluate": training_configs.evaluation(PLAN, SPEC),
        "multi_gpu_train": training_configs.multi_gpu(),
        "tracking_mlflow": training_configs.tracking(),
    }
    for name in ("inference", "train", "evaluate"):
        named[name]["dataset_dir"] = DATA
    return named | {f"loss_{loss}": training_configs.loss_override(loss) for loss in LOSSES}


def write_ready(root: Path) -> None:
    """Write the configurations under `root`."""
    for name, content in ready_configs().items():
        write_json(root / "configs" / f"{name}.json", content)


if __name__ == "__main__":
    write_ready(Path(sys.argv[1]))
