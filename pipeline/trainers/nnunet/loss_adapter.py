"""Losses of this package in nnU-Net's calling convention, with regions and an ignore label.

nnU-Net calls a loss with logits (B, C, *S) and one of two targets:

- labels: class indices (B, 1, *S), where ignored voxels have the highest label;
- regions: one channel per region (B, R, *S) for sigmoids, and the mask of ignored voxels as a last channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.data.annotation import IGNORED_INDEX
from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.catalogue import USES_POSITIONS
from pipeline.losses.known import loss_on_known


@dataclass(frozen=True, slots=True)
class TargetFormat:
    """The targets of a dataset.

    Attributes
    ----------
    class_voxels
        Voxels of each class, background first. With regions, one entry for each region: voxels outside and inside it.
    regions
        True if the network predicts regions, which may overlap, instead of classes.
    ignore_label
        Label of voxels that were not annotated, or None.
    """

    class_voxels: tuple[tuple[int, ...], ...]
    regions: bool = False
    ignore_label: int | None = None


class AdaptedLoss(nn.Module):
    """A loss of nnU-Net's logits and targets.

    A region is a problem of two classes with the logits (0, z): their softmax is the sigmoid of z and its complement.
    Each region has a loss of its own, and the result is their mean.

    Where voxels are ignored, the loss of each image is computed from its annotated voxels alone, and averaged over the
    images that have any.

    Parameters
    ----------
    losses
        One loss for labels, or one for each region. Each is called with logits (B, C, *S) and class indices (B, 1, *S).
    regions, ignore_label
        As in `TargetFormat`.
    """

    def __init__(self, losses: Sequence[nn.Module], regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of logits (B, C, *S) and nnU-Net's target."""
        if not self.regions:
            annotated = None if self.ignore_label is None else target != self.ignore_label
            return _over_annotated(self.losses[0], logits, target.long(), annotated)
        annotated = None if self.ignore_label is None else target[:, -1:] == 0
        values = []
        for index, loss in enumerate(self.losses):
            logit = logits[:, index : index + 1]
            both = torch.cat([torch.zeros_like(logit), logit], 1)
            values.append(_over_annotated(loss, both, target[:, index : index + 1].long(), annotated))
        return torch.stack(values).mean()

    def set_progress(self, fraction: float) -> None:
        """Pass the completed share of the training, 0 to 1, to a loss with a schedule."""
        loss: Any
        for loss in self.losses:
            loss.set_progress(fraction)


def adapted_loss(spec: LossSpec, target: TargetFormat) -> AdaptedLoss:
    """Return a loss for the targets of a dataset.

    Raises
    ------
    ConfigError
        If the arguments do not fit, or the loss uses positions of voxels and some voxels are ignored.

    Examples
    --------
    >>> import torch
    >>> from pipeline.losses import parse_losses
    >>> (spec,) = parse_losses("ce")
    >>> loss = adapted_loss(spec, TargetFormat(class_voxels=((3, 1), (2, 2)), regions=True))
    >>> round(float(loss(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4))), 4)  # log 2
    0.6931
    """
    losses = [build_loss(spec, voxels) for voxels in target.class_voxels]
    if target.ignore_label is not None and _uses_positions(spec, losses[0]):
        reason = "may use" if spec.is_custom else "uses"
        remedy = "choose another loss"
        if spec.is_custom:
            remedy = "set uses_positions = False in its class if it looks at logits and labels of single voxels only"
        raise ConfigError(
            f"loss {spec.text}",
            f"{reason} positions or distances of voxels and cannot leave out the ignore label {target.ignore_label}",
            remedy,
        )
    return AdaptedLoss(losses, target.regions, target.ignore_label)


def _uses_positions(spec: LossSpec, loss: nn.Module) -> bool:
    if spec.is_custom:
        return bool(getattr(loss.inner, "uses_positions", True))
    return spec.name in USES_POSITIONS


def _over_annotated(
    loss: nn.Module, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
) -> torch.Tensor:
    """Return the loss of the annotated voxels (B, 1, *S), the mean over images that have any; 0 if none has."""
    if annotated is None:
        value: torch.Tensor = loss(logits, target)
        return value
    return loss_on_known(loss, logits, target.masked_fill(~annotated, IGNORED_INDEX))
