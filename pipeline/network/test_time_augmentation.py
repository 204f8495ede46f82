"""Test-time augmentation: the mean of what a network says of a window as it is and slightly turned."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.network.rotation import rotation, sampling_matrix

ANGLE_DEGREES = 8.0
"""Of the views, about each axis: half of what training turns patches by."""


class TurnedViews(nn.Module):
    """A network that is asked nine times: of each window as it is, and turned about all three axes, either way.

    Probabilities are turned back and averaged: test-time augmentation (Wang et al. 2019,
    doi:10.1016/j.neucom.2019.01.103), without their flips and noise, since training mirrors nothing. Where a turned
    window does not reach, in its corners, the mean is over the views that do.

    Parameters
    ----------
    network
        From windows (B, C, *S) to logits (B, K, *S).
    spacing_mm
        Of the windows: they are turned in mm, not in voxels.
    """

    def __init__(self, network: nn.Module, spacing_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.network = network
        spacing = np.diag(spacing_mm)
        angles = np.deg2rad(ANGLE_DEGREES) * np.array(list(itertools.product((-1, 1), repeat=3)))
        self.turns = [np.linalg.inv(spacing) @ rotation(turn) @ spacing for turn in angles]

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return logarithms of the mean probabilities (B, K, *S) float32, whose softmax they are."""
        windows = windows.float()
        total = self.network(windows).float().softmax(1)
        views = torch.ones_like(total[:1, :1])
        for turn in self.turns:
            there, back = (_grid(matrix, windows) for matrix in (turn, np.linalg.inv(turn)))
            turned = functional.grid_sample(windows, there, padding_mode="border", align_corners=False)
            found = self.network(turned).float().softmax(1)
            reached = (back[:1].abs() <= 1).all(-1)[:, None]
            total += reached * functional.grid_sample(found, back, padding_mode="border", align_corners=False)
            views += reached
        return (total / views).clamp_min(torch.finfo(torch.float32).tiny).log()


def _grid(turn: np.ndarray, windows: torch.Tensor) -> torch.Tensor:
    """Return where each voxel of turned windows (B, C, *S) lies, (B, *S, 3) in normalised coordinates (z, y, x)."""
    edges = windows.shape[2:]
    theta = sampling_matrix(turn, edges, edges).to(windows)
    return functional.affine_grid(theta.expand(len(windows), -1, -1), [len(windows), 1, *edges], align_corners=False)
