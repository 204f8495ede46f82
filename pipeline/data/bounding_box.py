"""The smallest box around the voxels of a mask or label map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]
"""One slice for each axis, with start and stop."""


def bounding_box(mask: NDArray[Any]) -> Box:
    """Return the smallest box around all voxels that are not 0.

    Parameters
    ----------
    mask
        Mask or label map of any number of dimensions.

    Raises
    ------
    ValueError
        The mask is empty.

    Examples
    --------
    >>> mask = np.zeros((5, 6), bool)
    >>> mask[1:3, 4] = True
    >>> bounding_box(mask)
    (slice(1, 3, None), slice(4, 5, None))
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Each axis searches only what the earlier ones left.
        rest = mask[tuple(box)]
        other_axes = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(rest.any(axis=other_axes))
        if not occupied.size:
            raise ValueError("an empty mask has no bounding box")
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)
