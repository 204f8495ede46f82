"""Preprocessing of a bundle, built from MONAI's dictionary transforms; it repeats `pipeline.training.preparation`."""

from collections.abc import Sequence

from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.template import Config, Json, fill_template


def preprocessing_config(
    settings: ModelSettings, spacing_mm: Sequence[float] | str, label_values: Sequence[int] | None = None
) -> list[Config]:
    """Return the transforms of ``image`` from NIfTI files to the grid and the intensities of the training.

    Parameters
    ----------
    settings
        Normalization of each channel.
    spacing_mm
        Spacing of the grid along R, A, S, or a reference such as ``@spacing_mm``.
    label_values
        Values of the classes in ``label``, background first, which become class indices; None if only ``image`` is
        prepared.
    """
    class_indices = list(range(len(label_values or ())))
    values: dict[str, Json] = {
        "keys": "image" if label_values is None else ["image", "label"],
        "spacing_mm": spacing_mm,
        "interpolation": "bilinear" if label_values is None else ["bilinear", "nearest"],
        "label_values": label_values,
        "class_indices": class_indices,
        "gaps_in_labels": list(label_values or ()) != class_indices,
        "normalization": normalization_config(settings),
    }
    steps: list[Config] = fill_template("preprocessing", values)["transforms"]
    return steps


def normalization_config(settings: ModelSettings) -> list[Config]:
    """Return the normalization of ``image``; channels are split where they are not all treated alike."""
    kinds = set(settings.normalisation)
    count = len(settings.normalisation)
    if "ct" not in kinds and len(kinds) == 1:
        nonzero = "zscore_nonzero" in kinds
        return [{"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": nonzero, "channel_wise": True}]
    if count == 1:
        return _channel_normalization("image", settings, 0)
    keys = [f"image_{index}" for index in range(count)]
    postfixes = [str(index) for index in range(count)]
    return [
        {"_target_": "SplitDimd", "keys": "image", "output_postfixes": postfixes, "dim": 0},
        *(step for index, key in enumerate(keys) for step in _channel_normalization(key, settings, index)),
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image", "dim": 0},
        {"_target_": "DeleteItemsd", "keys": keys},
    ]


def _channel_normalization(key: str, settings: ModelSettings, index: int) -> list[Config]:
    kind = settings.normalisation[index]
    if kind != "ct":
        return [{"_target_": "NormalizeIntensityd", "keys": key, "nonzero": kind == "zscore_nonzero"}]
    low, high = settings.intensity_range[index]
    mean, std = settings.intensity_mean[index], settings.intensity_std[index]
    clipping: Config = {"_target_": "ScaleIntensityRanged", "keys": key, "a_min": low, "a_max": high}
    return [
        clipping | {"b_min": low, "b_max": high, "clip": True},
        {"_target_": "NormalizeIntensityd", "keys": key, "subtrahend": mean, "divisor": max(std, 1e-6)},
    ]
