"""Losses of a user, given by import path."""

import torch
from torch import nn


class Undeclared(nn.Module):
    """A mean over voxels that does not say so."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, target[:, 0].long())


class OfSingleVoxels(Undeclared):
    """The same, declared."""

    uses_positions = False
