"""Overlap losses that MONAI lacks or supports for two classes only.

All are called with logits (B, C, *S) and class indices (B, 1, *S) and return a scalar.
"""

from typing import Any

import torch
from monai.losses import DiceLoss, TverskyLoss
from monai.networks.utils import one_hot
from torch import nn
from torch.nn import functional

OVERLAP: dict[str, Any] = {"include_background": False, "to_onehot_y": True, "softmax": True}
"""Arguments of MONAI's overlap losses: foreground classes only, class indices as target, logits as input."""

SMALL = 1e-6
"""Lower bound of bases and denominators, so that roots and quotients have finite gradients."""


class LogCoshDice(nn.Module):
    """``log(cosh(1 - Dice))`` (Jadon 2020, arXiv:2006.14822): its gradient vanishes as Dice approaches 1."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(**OVERLAP)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of the mean Dice over images and foreground classes."""
        return torch.log(torch.cosh(self.dice(logits, target)))


class FocalTversky(nn.Module):
    """Mean over images and foreground classes of ``(1 - Tversky)^(1/gamma)`` (Abraham and Khan 2019, arXiv:1810.07842).

    Parameters
    ----------
    alpha, beta
        Weights of false positives and of false negatives.
    gamma
        Inverse of the exponent, above 0.

    Raises
    ------
    ValueError
        If `gamma` is not above 0.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 4 / 3) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError("gamma must be above 0")
        self.tversky = TverskyLoss(**OVERLAP, alpha=alpha, beta=beta, reduction="none")
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        # The root has an infinite slope at a perfect overlap, where 1 - Tversky is 0.
        return self.tversky(logits, target).clamp_min(SMALL).pow(1 / self.gamma).mean()


class LovaszSoftmax(nn.Module):
    """The convex extension of 1 - Jaccard, over the classes present in each image.

    Source: Berman et al. 2018, arXiv:1705.08790.

    Voxels are sorted by their error. The weight of each error is the increase of 1 - Jaccard when its voxel joins the
    voxels with larger errors as wrong, hence the cumulative sums.
    """

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, the mean over images and present classes, the background included."""
        probabilities = logits.softmax(1).flatten(2)
        onehot = one_hot(target, logits.shape[1]).flatten(2).to(probabilities)
        errors, order = (onehot - probabilities).abs().sort(dim=2, descending=True)
        sorted_truth = onehot.gather(2, order)
        total = onehot.sum(2, keepdim=True)
        intersection = total - sorted_truth.cumsum(2)
        union = total + (1 - sorted_truth).cumsum(2)
        jaccard = 1 - intersection / union.clamp_min(SMALL)
        steps = torch.cat([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], dim=2)
        each = (errors * steps).sum(2)
        present = total[..., 0] > 0
        return each[present].mean()


class UnifiedFocal(nn.Module):
    """Asymmetric unified focal loss for any number of classes.

    Source: Yeung et al. 2022, doi:10.1016/j.compmedimag.2021.102026.

    The focal part damps the cross entropy of the background by ``(1 - p)^gamma`` and leaves that of the foreground. The
    focal Tversky part enhances the foreground by ``(1 - Tversky)^(1 - gamma)``.

    Parameters
    ----------
    weight
        Share of the focal part, 0 to 1; the rest is the focal Tversky part.
    delta
        Weight of false negatives, 0 to 1; that of false positives is ``1 - delta``.
    gamma
        Exponent of damping and enhancement, 0 to below 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(self, weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5) -> None:
        super().__init__()
        if not (0 <= weight <= 1 and 0 <= delta <= 1 and 0 <= gamma < 1):
            raise ValueError("weight and delta must be in 0..1, and gamma at least 0 and below 1")
        self.weight, self.delta, self.gamma = weight, delta, gamma

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        onehot = one_hot(target, logits.shape[1]).to(logits)
        log_probabilities = functional.log_softmax(logits, 1)
        probabilities = log_probabilities.exp()
        each = -onehot * log_probabilities
        background = (1 - self.delta) * (1 - probabilities[:, :1]).clamp_min(SMALL).pow(self.gamma) * each[:, :1]
        focal = (background.sum(1) + self.delta * each[:, 1:].sum(1)).mean()
        axes = tuple(range(2, logits.ndim))
        hit = (probabilities * onehot).sum(axes)[:, 1:]
        missed = ((1 - probabilities) * onehot).sum(axes)[:, 1:]
        false = (probabilities * (1 - onehot)).sum(axes)[:, 1:]
        tversky = (hit + SMALL) / (hit + self.delta * missed + (1 - self.delta) * false + SMALL)
        enhanced = (1 - tversky).clamp_min(SMALL).pow(1 - self.gamma).mean()
        return self.weight * focal + (1 - self.weight) * enhanced
