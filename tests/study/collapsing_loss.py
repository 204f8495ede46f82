"""A loss that rewards the background everywhere."""

import torch
from torch import nn


class OnlyBackground(nn.Module):
    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits[:, 1:].mean() - logits[:, :1].mean() + 0 * target.sum()


class NotANumber(nn.Module):
    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.sum() * torch.nan
