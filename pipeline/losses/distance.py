"""Losses on distance maps."""

import torch
from monai.losses import BoundaryLoss, DiceLoss
from torch import nn

from pipeline.losses.overlap import OVERLAP

INITIAL_BOUNDARY_WEIGHT = 0.01


class DiceAndBoundary(nn.Module):
    """``(1 - a) Dice + a boundary`` with a weight `a` that grows during training (Kervadec et al. 2019).

    The boundary term alone has trivial minima, so `a` starts at 1 % and grows linearly.

    Parameters
    ----------
    largest
        Weight `a` at the end of the training, between 0 and 1.

    Raises
    ------
    ValueError
        If `largest` is out of range.
    """

    def __init__(self, largest: float = 0.5) -> None:
        super().__init__()
        if not 0 < largest < 1:
            raise ValueError("largest must be between 0 and 1")
        self.dice, self.boundary = DiceLoss(**OVERLAP), BoundaryLoss(**OVERLAP)
        self.largest = largest
        self.boundary_weight = INITIAL_BOUNDARY_WEIGHT

    def set_progress(self, fraction: float) -> None:
        """Set the weight for the completed share of the training, 0 to 1."""
        self.boundary_weight = INITIAL_BOUNDARY_WEIGHT + fraction * (self.largest - INITIAL_BOUNDARY_WEIGHT)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of logits (B, C, *S) and class indices (B, 1, *S); distances are in voxels."""
        dice = (1 - self.boundary_weight) * self.dice(logits, target)
        return dice + self.boundary_weight * self.boundary(logits, target)
