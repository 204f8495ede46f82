"""The losses: each has one name, and MONAI's implementation where MONAI has one.

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
    """Return the loss as a module.

    It is called with logits (B, C, *S) and class indices (B, 1, *S) and returns a scalar.

    Parameters
    ----------
    spec
        The loss and its arguments.
    class_voxels
        Voxels of each class in the training labels, background first. Class weights are computed from them
        (`pipeline.data.class_weights`).

    Raises
    ------
    ConfigError
        If the arguments do not fit or a custom class cannot be imported.

    Examples
    --------
    >>> import torch
    >>> from pipeline.losses import build_loss, parse_losses
    >>> (spec,) = parse_losses("weighted_ce{weights=[1,3]}")
    >>> loss = build_loss(spec, class_voxels=(900, 100))
    >>> round(float(loss(torch.zeros(1, 2, 4, 4, 4), torch.ones(1, 1, 4, 4, 4))), 4)  # log 2
    0.6931
    """
    from pipeline.losses.registry import build

    return build(spec, class_voxels)
