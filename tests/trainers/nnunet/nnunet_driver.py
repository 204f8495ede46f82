"""Carries out steps of nnU-Net in one process: ``python nnunet_driver.py '[["prepare", 999], ["train", {...}]]'``.

A step of its own command each would import torch and nnU-Net again, which takes longer than these trainings.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.run import run_training as command
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

TINY = {"3d_fullres": [16, 16, 16], "2d": [16, 16]}
"""Patches of each configuration, in voxels."""


def declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch that its wheel was not built for; its operators are not used."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")


class QuickFingerprint(DatasetFingerprintExtractor):
    """Draws a thousand intensities of each case instead of millions."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)
        self.num_foreground_voxels_for_intensitystats = 8000


class Interrupted(Exception):
    """Ends a training as a kill does."""


def prepare(dataset: int, configurations: list[str]) -> None:
    """Plan and preprocess, with a network of two small stages and deep supervision between three."""
    extract_fingerprint_dataset(dataset, QuickFingerprint, 1, verbose=False, show_progress_bar=False)
    plan_experiments([dataset])
    (folder,) = Path(str(nnUNet_preprocessed)).glob(f"Dataset{dataset:03d}_*")
    path = folder / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    for name in configurations:
        settings = plans["configurations"][name]
        patch = TINY[name]
        settings |= {"patch_size": patch, "batch_size": 2}
        three = [[3] * len(patch)] * 3
        settings["architecture"]["arch_kwargs"] |= {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "kernel_sizes": three,
            "strides": [[1] * len(patch), [2] * len(patch), [2] * len(patch)],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
        }
    path.write_text(json.dumps(plans))
    preprocess([dataset], "nnUNetPlans", configurations, [1] * len(configurations), show_progress_bar=False)


def train(
    dataset: int,
    configuration: str,
    trainer: str,
    resume: bool = False,
    stop: int | None = None,
    check: bool = True,
    environment: dict[str, str] | None = None,
) -> None:
    """Train fold 0, until the start of epoch `stop` if it is given, and validate if `check`."""
    before = dict(os.environ)
    os.environ |= environment or {}
    try:
        instance = trainer_of(dataset, configuration, trainer, resume)
        command.maybe_load_checkpoint(instance, resume, False)
        if stop is not None:
            interrupt_at(instance, stop)
        instance.run_training()
        if check:
            instance.inference_allowed_mirroring_axes = None  # eight times as fast
            instance.perform_actual_validation()
    except Interrupted:
        instance.dataloader_train._finish()
        instance.dataloader_val._finish()
    finally:
        os.environ |= before


def remove(path: str) -> None:
    Path(path).unlink()


def refuse(**settings: Any) -> None:
    """Print the error with which a training is refused."""
    try:
        train(**settings)
    except Exception as error:
        print(f"refused by {type(error).__name__}: {error}")


def trainer_of(dataset: int, configuration: str, trainer: str, resume: bool) -> nnUNetTrainer:
    device = torch.device("cpu")
    return command.get_trainer_from_args(str(dataset), configuration, 0, trainer, "nnUNetPlans", resume, device)


def interrupt_at(trainer: nnUNetTrainer, epoch: int) -> None:
    start = trainer.on_epoch_start

    def start_or_interrupt() -> None:
        if trainer.current_epoch == epoch:
            raise Interrupted
        start()

    trainer.on_epoch_start = start_or_interrupt


def validate(dataset: int, configuration: str, trainer: str) -> None:
    """Do what ``nnUNetv2_train --val`` does."""
    instance = trainer_of(dataset, configuration, trainer, False)
    command.maybe_load_checkpoint(instance, False, True)
    instance.perform_actual_validation()


def predict(model: str, image: str, output: str) -> None:
    """Do what ``nnUNetv2_predict`` does, for one case."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, (0,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[image]], [output])


STEPS = {
    "prepare": prepare,
    "train": train,
    "remove": remove,
    "refuse": refuse,
    "validate": validate,
    "predict": predict,
}


def main() -> None:
    torch.set_num_threads(1)
    declare_torchvision_operators()
    # Pools of new processes import torch again; the picture takes longer than an epoch.
    context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: context("fork")  # type: ignore[assignment]
    MetaLogger.plot_progress_png = lambda self, folder: None
    for step, arguments in json.loads(sys.argv[1]):
        STEPS[step](**arguments)


if __name__ == "__main__":
    main()
