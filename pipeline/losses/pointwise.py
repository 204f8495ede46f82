"""Losses that are means over voxels: cross entropy and its variants."""

import torch
from torch import nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Cross entropy over all classes, background included.

    Parameters
    ----------
    weight
        Class weights (C,), or None. Torch divides the weighted sum by the sum of the weights of all voxels, so that
        scaling all weights changes nothing.
    label_smoothing
        Share of the truth that is spread evenly over all classes, 0 to 1.
    """

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over voxels of logits (B, C, *S) and class indices (B, 1, *S)."""
        weight = None if self.weight is None else self.weight.to(logits)
        return functional.cross_entropy(logits, target[:, 0].long(), weight, label_smoothing=self.label_smoothing)


class TopKCrossEntropy(nn.Module):
    """Mean over the voxels with the largest cross entropy (Wu et al. 2016, arXiv:1605.06885).

    Parameters
    ----------
    k
        Share of voxels, above 0 and at most 1. The default of 10 % is that of nnU-Net's variant.

    Raises
    ------
    ValueError
        If `k` is out of range.
    """

    def __init__(self, k: float = 0.1) -> None:
        super().__init__()
        if not 0 < k <= 1:
            raise ValueError("k must be a share of voxels, above 0 and at most 1")
        self.k = k

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over the hardest voxels of logits (B, C, *S) and class indices (B, 1, *S)."""
        each = functional.cross_entropy(logits, target[:, 0].long(), reduction="none").flatten()
        return torch.topk(each, max(1, int(each.numel() * self.k)), sorted=False).values.mean()
