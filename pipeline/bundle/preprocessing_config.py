"""Preprocessing of a bundle, built from MONAI's dictionary transforms; it repeats `pipeline.training.preparation`."""

from collections.abc import Mapping
from typing import Any

from pipeline.bundle.recipe import Recipe
from pipeline.bundle.template import Config, fill_template


def preprocessing_config(recipe: Recipe, values: Mapping[str, Any], *, with_label: bool) -> list[Config]:
    """Return the transforms from NIfTI files to the grid and the intensities of the training.

    Parameters
    ----------
    recipe
        Normalization of each channel.
    values
        `label_values` with the `class_indices` that replace them, `gaps_in_labels` (whether they differ), and
        `pixdim`, the spacing in mm along R, A, S or a reference to it.
    with_label
        Whether ``label`` is prepared with ``image``.
    """
    keys = ["image", "label"]
    changing = {
        "keys": keys if with_label else "image",
        "interpolation": ["bilinear", "nearest"] if with_label else "bilinear",
        "label_is_mapped": with_label and values["gaps_in_labels"],
        "normalization": normalization_config(recipe),
    }
    steps: list[Config] = fill_template("preprocessing", {**values, **changing})["transforms"]
    return steps


def normalization_config(recipe: Recipe) -> list[Config]:
    """Return the normalization of ``image``; channels are split where they are not all treated alike."""
    kinds = set(recipe.normalisation)
    count = len(recipe.normalisation)
    if "ct" not in kinds and len(kinds) == 1:
        nonzero = "zscore_nonzero" in kinds
        return [{"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": nonzero, "channel_wise": True}]
    if count == 1:
        return _channel_normalization("image", recipe, 0)
    keys = [f"image_{index}" for index in range(count)]
    postfixes = [str(index) for index in range(count)]
    return [
        {"_target_": "SplitDimd", "keys": "image", "output_postfixes": postfixes, "dim": 0},
        *(step for index, key in enumerate(keys) for step in _channel_normalization(key, recipe, index)),
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image", "dim": 0},
        {"_target_": "DeleteItemsd", "keys": keys},
    ]


def _channel_normalization(key: str, recipe: Recipe, index: int) -> list[Config]:
    kind = recipe.normalisation[index]
    if kind != "ct":
        return [{"_target_": "NormalizeIntensityd", "keys": key, "nonzero": kind == "zscore_nonzero"}]
    low, high = recipe.intensity_range[index]
    mean, std = recipe.intensity_mean[index], recipe.intensity_std[index]
    clipping: Config = {"_target_": "ScaleIntensityRanged", "keys": key, "a_min": low, "a_max": high}
    return [
        clipping | {"b_min": low, "b_max": high, "clip": True},
        {"_target_": "NormalizeIntensityd", "keys": key, "subtrahend": mean, "divisor": max(std, 1e-6)},
    ]
