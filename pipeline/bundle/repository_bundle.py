"""The bundle of the repository, ``bundles/segmentation_3d``: a network without weights and a choice of losses.

``python -m pipeline.bundle.repository_bundle bundles/segmentation_3d`` writes its ``configs``; a test compares the
stored files with the result of this module.
"""

import sys
from pathlib import Path

from pipeline.bundle.configurations import (
    evaluation_config,
    inference_config,
    multi_gpu_config,
    tracking_config,
    training_config,
)
from pipeline.bundle.losses import LOSSES, loss_settings
from pipeline.bundle.metadata import Description, metadata
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, TrainingRanges
from pipeline.bundle.template import Config
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
SETTINGS = make_settings(PLAN, "dice_ce", {})
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
    fingerprint=TrainingRanges(cases=1, spacing_mm=(), shape=(), intensity=()),
    segments=default_segments(CLASSES),
    recipe=SETTINGS,
)
DESCRIPTION = Description(
    name="3D segmentation with a choice of losses",
    version="0.1.0",
    task="3D segmentation with a choice of losses",
    description="A 3D U-Net for volumes in NIfTI, trained with one of the losses of configs/loss_*.json; it logs "
    "validation Dice and Hausdorff distance in mm. It holds no weights: train it first.",
    data_source="yours: a folder with imagesTr, labelsTr and imagesTs",
    author="the authors of whichloss",
)


def repository_configs() -> dict[str, Config]:
    """Return the content of each file of ``configs`` by name without suffix."""
    return {
        "metadata": metadata(SPEC, SETTINGS, DESCRIPTION),
        "inference": inference_config(SPEC, SETTINGS, dataset_dir=DATA, numbers_on_top=True),
        "train": training_config(SPEC, SETTINGS, dataset_dir=DATA),
        "evaluate": evaluation_config(SPEC, SETTINGS, dataset_dir=DATA),
        "multi_gpu_train": multi_gpu_config(),
        "tracking_mlflow": tracking_config(),
        # Merged over ``train.json``, e.g. --config_file "['configs/train.json', 'configs/loss_dice.json']".
        **{f"loss_{loss}": loss_settings(loss, "$[1.0] * @num_classes") for loss in LOSSES},
    }


def write_repository_configs(root: Path) -> None:
    """Write the configurations under `root`."""
    for name, content in repository_configs().items():
        write_json(root / "configs" / f"{name}.json", content)


if __name__ == "__main__":
    write_repository_configs(Path(sys.argv[1]))
