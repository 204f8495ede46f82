"""Test-time augmentation: the mean of the predictions of a window as it is and slightly rotated."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.network.rotation import rotation, sampling_matrix

ANGLE_DEGREES = 8.0
"""Rotation of each copy about each axis: about half of the largest rotation in training."""


class RotationEnsemble(nn.Module):
    """Average a network's probabilities over nine copies of each window.

    One copy is the window as it is; eight are rotated by plus or minus `ANGLE_DEGREES` about all three axes. The
    probabilities are rotated back and averaged: test-time augmentation (Wang et al. 2019,
    doi:10.1016/j.neucom.2019.01.103), without flips and noise, since training does not mirror by default. In the
    corners, which a rotated window does not cover, the mean is over the copies that do.

    Parameters
    ----------
    network
        Maps windows (B, C, *S) to logits (B, K, *S).
    spacing_mm
        Voxel spacing of the windows. Windows are rotated rigidly in mm, not in voxels.
    """

    def __init__(self, network: nn.Module, spacing_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.network = network
        spacing = np.diag(spacing_mm)
        angles = np.deg2rad(ANGLE_DEGREES) * np.array(list(itertools.product((-1, 1), repeat=3)))
        self.rotations = [np.linalg.inv(spacing) @ rotation(three_angles) @ spacing for three_angles in angles]

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return logarithms of the mean probabilities (B, K, *S) float32 of windows (B, C, *S).

        Their softmax is the mean probabilities again, so callers can use them as logits.
        """
        windows = windows.float()
        total = self.network(windows).float().softmax(1)
        copies = torch.ones_like(total[:1, :1])
        for matrix in self.rotations:
            forward, backward = (_sampling_grid(one, windows) for one in (matrix, np.linalg.inv(matrix)))
            rotated = functional.grid_sample(windows, forward, padding_mode="border", align_corners=False)
            probabilities = self.network(rotated).float().softmax(1)
            covered = (backward[:1].abs() <= 1).all(-1)[:, None]
            total += covered * functional.grid_sample(
                probabilities, backward, padding_mode="border", align_corners=False
            )
            copies += covered
        # A probability of 0 has no logarithm; the smallest normal number keeps the result finite, and NaN stays NaN.
        return (total / copies).clamp_min(torch.finfo(torch.float32).tiny).log()


def _sampling_grid(matrix: NDArray[np.floating], windows: torch.Tensor) -> torch.Tensor:
    """Return where each voxel of rotated windows (B, C, *S) is sampled, (B, *S, 3) in normalized coordinates."""
    edges = windows.shape[2:]
    theta = sampling_matrix(matrix, edges, edges).to(windows)
    return functional.affine_grid(theta.expand(len(windows), -1, -1), [len(windows), 1, *edges], align_corners=False)
