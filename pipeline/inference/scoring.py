"""Which way a volume takes through the network: the bundle's own, in bfloat16, or slab by slab."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch

from pipeline.network.precision import autocast
from pipeline.network.sliding_window import sliding_scores
from pipeline.network.test_time_augmentation import TurnedViews

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

Precision = Literal["float32", "bfloat16"]

LARGE_BYTES = 3 << 30
"""Estimate of working memory from which on a volume is processed slab by slab."""


def is_large(voxels: int, channels: int, classes: int) -> bool:
    """Return whether the bundle's own way would take over about 3 GiB for `voxels` and `classes` without background.

    It holds the image three times and the scores of all classes four times in float32.
    """
    return 4 * voxels * (3 * channels + 4 * (classes + 1)) > LARGE_BYTES


def predictor(model: "Model", precision: Precision, tta: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network as a function of windows (B, C, *patch) in the format asked for."""
    network = TurnedViews(model.network, model.spacing_mm) if tta else model.network

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast(precision, model.device):
            scores: torch.Tensor = network(windows)
            return scores

    return predict


def score(model: "Model", prepared: Any, precision: Precision, tta: bool) -> torch.Tensor:
    """Return logits (C, X, Y, Z) float32 on the prepared grid.

    In float32 it is the bundle's own inferer, voxel for voxel what MONAI alone gives; bfloat16 and test-time
    augmentation stitch the same windows.
    """
    if precision == "float32" and not tta:
        return model.infer(prepared)
    image = torch.as_tensor(prepared.image).as_subclass(torch.Tensor)
    return sliding_scores(
        image, predictor(model, precision, tta), model.patch, model.overlap, model.batch, model.device
    )
