"""The computation of scores: by the bundle's own inferer, or by the same windows in bfloat16 or with augmentation."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pipeline.network.precision import Precision, autocast
from pipeline.network.sliding_window import sliding_scores
from pipeline.network.test_time_augmentation import RotationEnsemble

if TYPE_CHECKING:
    from pipeline.bundle.model import Model, Prepared

LARGE_BYTES = 3 << 30
"""Estimated working memory in bytes above which a volume is processed slab by slab."""


def is_large(voxels: int, channels: int, classes: int) -> bool:
    """Return whether the bundle's own inferer would need more than `LARGE_BYTES`.

    The inferer holds the image three times and the scores of all classes four times, in float32.

    Parameters
    ----------
    voxels
        Voxels of one channel.
    channels
        Channels of the image.
    classes
        Classes without the background.

    Examples
    --------
    >>> is_large(256 * 256 * 160, channels=1, classes=2), is_large(512 * 512 * 600, channels=1, classes=3)
    (False, True)
    """
    return 4 * voxels * (3 * channels + 4 * (classes + 1)) > LARGE_BYTES


def predictor(model: "Model", precision: Precision, tta: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network as a function of windows (B, C, *patch) that computes in `precision`."""
    network = RotationEnsemble(model.network, model.spacing_mm) if tta else model.network

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast(precision, model.device):
            scores: torch.Tensor = network(windows)
            return scores

    return predict


def score(model: "Model", prepared: "Prepared", precision: Precision, tta: bool) -> torch.Tensor:
    """Return logits (C, X, Y, Z) float32 on the prepared grid.

    In float32 and without test-time augmentation the bundle's own inferer computes them, so that they equal voxel for
    voxel those of MONAI without this program. Otherwise the same windows are merged by this program.
    """
    if precision == "float32" and not tta:
        return model.infer(prepared)
    image = torch.as_tensor(prepared.image).as_subclass(torch.Tensor)
    return sliding_scores(
        image, predictor(model, precision, tta), model.patch, model.overlap, model.batch, model.device
    )
