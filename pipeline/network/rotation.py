"""Rotations about the center of a patch, as matrices for `torch.nn.functional.affine_grid`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def sampling_matrix(in_voxels: NDArray[np.floating], crop: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """Return the matrix with which `affine_grid` samples a patch from a crop.

    Parameters
    ----------
    in_voxels
        Matrix (3, 3) that maps voxel offsets from the patch's center to voxel offsets from the crop's center, in the
        order x, y, z.
    crop, patch
        Edges in voxels, in the order x, y, z.

    Returns
    -------
    Tensor
        Matrix (3, 4) for ``align_corners=False``. `affine_grid` expects normalized coordinates, -1 to 1 over an edge,
        in reversed order (z, y, x).

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.network.rotation import sampling_matrix
    >>> sampling_matrix(np.eye(3), (20, 20, 40), (10, 20, 10)).diagonal().tolist()
    [0.25, 1.0, 0.5]
    """
    matrix = np.diag(2 / np.asarray(crop)) @ in_voxels @ np.diag(np.asarray(patch) / 2)
    # `affine_grid` takes no negative strides, and reversing both axes leaves some: hence the copy.
    return torch.from_numpy(np.concatenate([matrix[::-1, ::-1], np.zeros((3, 1))], axis=1).copy())


def rotation(angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotation matrix (3, 3) of three Euler angles in radians, about the axes x, y and z in this order.

    The sign of the angle about y is opposite to the right-hand rule. Callers draw angles symmetrically about 0.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.network.rotation import rotation
    >>> rotation(np.array([0, 0, np.pi / 2])).round(6).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [i for i in range(3) if i != axis]
        about_axis = np.eye(3)
        about_axis[first, first] = about_axis[second, second] = np.cos(angle)
        about_axis[first, second], about_axis[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ about_axis
    return matrix
