"""Losses on distance maps."""

from typing import Any

import torch
from monai.losses import BoundaryLoss, DiceLoss
from torch import nn


class DiceAndBoundary(nn.Module):
    """``(1 - a) Dice + a boundary`` with a weight `a` that grows over the training (Kervadec et al. 2019).

    The boundary term alone has trivial minima, so it starts at 1 % and grows linearly to `largest`.
    """

    def __init__(self, largest: float = 0.5) -> None:
        super().__init__()
        if not 0 < largest < 1:
            raise ValueError("largest lies between 0 and 1")
        overlap: dict[str, Any] = {"include_background": False, "to_onehot_y": True, "softmax": True}
        self.dice, self.boundary = DiceLoss(**overlap), BoundaryLoss(**overlap)
        self.largest = largest
        self.share = 0.01

    def set_progress(self, fraction: float) -> None:
        """Set the weight for this share of the training."""
        self.share = 0.01 + fraction * (self.largest - 0.01)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss; distances are in voxels."""
        return (1 - self.share) * self.dice(logits, target) + self.share * self.boundary(logits, target)
