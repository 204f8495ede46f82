"""The losses: one name each, MONAI's implementation where it has one.

Importing this package does not import torch; building a loss does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.losses.catalogue import CATALOGUE, LossEntry
from pipeline.losses.loss_spec import LossSpec, parse_losses

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CATALOGUE", "LossEntry", "LossSpec", "build_loss", "parse_losses"]


def build_loss(spec: LossSpec, class_voxels: Sequence[int]) -> "nn.Module":
    """Return the loss, to be called with logits (B, C, *S) and class indices (B, 1, *S); the result is a scalar.

    `class_voxels` are the voxels of each class in the training labels, background first, for class weights.

    Raises
    ------
    ConfigError
        Where the arguments do not fit or a custom class cannot be imported.
    """
    from pipeline.losses.registry import build

    return build(spec, class_voxels)
