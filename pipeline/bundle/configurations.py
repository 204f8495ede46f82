"""The configurations of an exported bundle: the templates with the numbers of its specification.

`whichloss export` writes the result of `configurations`, and opening a bundle compares the files with it. So a bundle
cannot hold a target, an argument, an expression or a value that `whichloss export` would not have written.

The files consist of MONAI's own parts, so that they run without this package. They train a network of the same kind
on new data, without the paired randomness and the search over learning rates of a study (`pipeline.training`). As in
MONAI's model zoo, training writes the checkpoint that evaluation and inference read: ``ckpt_path``, by default
``models/model.pt``. All of them take the same ``dataset_dir``, with ``imagesTr``, ``labelsTr`` and ``imagesTs``.
"""

from typing import Any

from pipeline.bundle.losses import loss_settings
from pipeline.bundle.metric_expressions import METRIC_EXPRESSIONS
from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.network_config import ensemble_config, network_config
from pipeline.bundle.preprocessing_config import preprocessing_config
from pipeline.bundle.specification import BundleSpec
from pipeline.bundle.template import Config, fill_template


def configurations(spec: BundleSpec, settings: ModelSettings) -> dict[str, Config]:
    """Return the content of each file of ``configs`` except ``metadata.json``, by name without suffix."""
    return {
        "inference": inference_config(spec, settings),
        "train": training_config(spec, settings),
        "evaluate": evaluation_config(spec, settings),
        "multi_gpu_train": multi_gpu_config(),
        "tracking_mlflow": tracking_config(),
    }


def inference_config(
    spec: BundleSpec, settings: ModelSettings, *, dataset_dir: str = ".", numbers_on_top: bool = False
) -> Config:
    """Return ``configs/inference.json``: images in, masks of label values on their own grids out.

    Parameters
    ----------
    spec, settings
        The bundle.
    dataset_dir
        Default folder of the data.
    numbers_on_top
        True if channels, classes, spacing and window are settings at the top, which a user may replace.
    """
    values = _values(spec, settings, dataset_dir)
    top = numbers_on_top
    channels, classes = ("@num_channels", "@num_classes") if top else (values["channels"], values["classes"])
    steps = 1 + bool(settings.keep_largest) + values["gaps_in_labels"]
    values |= {
        "numbers_on_top": numbers_on_top,
        "roi_size": "@patch" if top else spec.patch,
        "network": _network(spec, settings, channels, classes),
        "preprocessing": preprocessing_config(settings, "@spacing_mm" if top else spec.spacing_mm),
        "keep_largest": settings.keep_largest,
        "deciding_steps": [f"@deciding::transforms::{index}" for index in range(steps)],
        "mask_dtype": "uint8" if max(spec.classes) < 256 else "uint16",
    }
    return fill_template("inference", values)


def training_config(spec: BundleSpec, settings: ModelSettings, *, dataset_dir: str = ".") -> Config:
    """Return ``configs/train.json``; the trained network replaces the weights at ``ckpt_path``."""
    values = _labeled_values(spec, settings, dataset_dir)
    weights = list(settings.class_weights) or [1.0] * values["classes"]
    values["preprocessing"] = preprocessing_config(settings, "@spacing_mm", values["label_values"])
    values["loss"] = loss_settings(settings.loss, weights, settings.loss_arguments)
    return fill_template("train", values)


def evaluation_config(spec: BundleSpec, settings: ModelSettings, *, dataset_dir: str = ".") -> Config:
    """Return ``configs/evaluate.json``: metrics of the network at ``ckpt_path`` on labeled cases, on their grids."""
    values = _labeled_values(spec, settings, dataset_dir)
    values["preprocessing"] = preprocessing_config(settings, "@spacing_mm")
    return fill_template("evaluate", values)


def multi_gpu_config() -> Config:
    """Return ``configs/multi_gpu_train.json``, merged over ``train.json`` under torchrun; gloo without GPUs."""
    return fill_template("multi_gpu_train")


def tracking_config() -> Config:
    """Return ``configs/tracking_mlflow.json``: MLflow runs named by loss, seed and fold, and ended at their end."""
    return fill_template("tracking_mlflow")


def _values(spec: BundleSpec, settings: ModelSettings, dataset_dir: str) -> dict[str, Any]:
    """Return the values that several templates need."""
    label_values = [0, *spec.classes]
    class_indices = list(range(len(label_values)))
    return {
        "dataset_dir": dataset_dir,
        "channels": len(spec.channels),
        "classes": len(label_values),
        "label_values": label_values,
        "class_indices": class_indices,
        "gaps_in_labels": label_values != class_indices,
        "several_files": spec.several_files,
        "spacing_mm": spec.spacing_mm,
        "patch": settings.patch,
        "window": spec.patch,
        "overlap": spec.overlap,
        "batch": spec.batch,
    }


def _labeled_values(spec: BundleSpec, settings: ModelSettings, dataset_dir: str) -> dict[str, Any]:
    """Return the values that training and evaluation share, with the parts that both of their templates contain."""
    values = _values(spec, settings, dataset_dir) | METRIC_EXPRESSIONS
    values["window_setting"] = "@patch" if spec.patch == settings.patch else spec.patch
    values["network"] = _network(spec, settings, "@num_channels", "@num_classes")
    return values | {"settings": fill_template("settings", values)} | fill_template("validation", values)


def _network(spec: BundleSpec, settings: ModelSettings, channels: int | str, classes: int | str) -> Config:
    """Return the network. An ensemble is one network too, so that its checkpoint fits all configurations.

    `channels` and `classes` hold for a single network; the numbers of an ensemble are fixed.
    """
    if spec.members == 1:
        return network_config(settings, channels, classes)
    return ensemble_config(settings, len(spec.channels), len(spec.classes) + 1, spec.members)
