"""Rotations about the center of a patch, as matrices for `torch.nn.functional.affine_grid`."""

from collections.abc import Sequence

import numpy as np
import torch


def sampling_matrix(in_voxels: np.ndarray, crop: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """Return `affine_grid`'s (3, 4) matrix for a (3, 3) map from a patch's voxels to a crop's, about the centres."""
    matrix = np.diag(2 / np.asarray(crop)) @ in_voxels @ np.diag(np.asarray(patch) / 2)
    return torch.from_numpy(np.concatenate([matrix[::-1, ::-1], np.zeros((3, 1))], axis=1).copy())


def rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of three Euler angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
