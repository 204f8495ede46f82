"""Losses that are means over voxels."""

import torch
from torch import nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Cross entropy over classes, weighted where weights (C,) are given; torch's mean divides by the weights' sum."""

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over voxels."""
        weight = None if self.weight is None else self.weight.to(logits)
        return functional.cross_entropy(logits, target[:, 0].long(), weight, label_smoothing=self.label_smoothing)


class TopKCrossEntropy(nn.Module):
    """Mean of the `k` share of voxels with the largest cross entropy (Wu et al. 2016; 10 % as in nnU-Net's variant)."""

    def __init__(self, k: float = 0.1) -> None:
        super().__init__()
        if not 0 < k <= 1:
            raise ValueError("k is a share of voxels, above 0 and at most 1")
        self.k = k

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over the hardest voxels of the batch."""
        each = functional.cross_entropy(logits, target[:, 0].long(), reduction="none").flatten()
        return torch.topk(each, max(1, int(each.numel() * self.k)), sorted=False).values.mean()
