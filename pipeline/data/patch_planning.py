"""Geometry of a plan: target spacing, strides of the network, shape of patch and window. All axes are R, A, S."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.fingerprint import Fingerprint

MINIMUM_EDGE = 4
"""Smallest edge, in voxels, of the deepest level: an axis is not halved below it."""

MAXIMUM_STRIDES = 3
"""Number of halvings, i.e. four levels."""

ANISOTROPY = 3.0
"""An axis is very coarse if its spacing is more than this many times the finest one."""

MINIMUM_SHARE = 0.85
"""Smallest share of a volume's edge that a patch may have so that it need not be padded to a divisible edge."""

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TargetSpacing:
    """Spacing in mm along R, A, S to which all cases are resampled, and its reason for people."""

    mm: tuple[float, float, float]
    reason: str


@dataclass(frozen=True, slots=True)
class PatchShape:
    """Voxels of a patch along R, A, S; those of the window if it differs from the patch; the reason for people."""

    patch: Triple
    window: Triple | None
    reason: str


def target_spacing(fingerprint: Fingerprint) -> TargetSpacing:
    """Return the median spacing; along a very coarse axis the 10th percentile, to preserve the detail of thin slices.

    The rule follows nnU-Net (Isensee et al. 2021).
    """
    spacings = np.asarray([scan.in_ras()[1] for scan in fingerprint.scans])
    target = np.median(spacings, axis=0)
    reason = "the median of all cases"
    coarse = int(np.argmax(target))
    if target[coarse] > ANISOTROPY * target.min():
        target[coarse] = max(float(np.percentile(spacings[:, coarse], 10)), float(np.delete(target, coarse).max()))
        reason += f", axis {'RAS'[coarse]} at its 10th percentile, since it is over {ANISOTROPY:g} times coarser"
    x, y, z = (float(np.round(edge, 4)) for edge in target)
    return TargetSpacing((x, y, z), f"{x:g} x {y:g} x {z:g} mm: {reason}")


def median_shape(fingerprint: Fingerprint, spacing_mm: Sequence[float]) -> Triple:
    """Return the median over cases of the voxels along R, A, S after resampling to `spacing_mm` (also R, A, S)."""
    shapes = [
        [n * edge / target for n, edge, target in zip(*scan.in_ras(), spacing_mm, strict=True)]
        for scan in fingerprint.scans
    ]
    x, y, z = (max(1, round(float(edge))) for edge in np.median(shapes, axis=0))
    return x, y, z


def choose_strides(shape: Triple, spacing_mm: Sequence[float]) -> tuple[Triple, ...]:
    """Return up to three halvings for a volume of `shape` voxels; one stride of 1 for a volume too small to halve.

    A coarse axis is halved only after the other axes have become as coarse as it is.

    Parameters
    ----------
    shape
        Voxels along R, A, S.
    spacing_mm
        Edges of a voxel along R, A, S.

    Examples
    --------
    >>> choose_strides((64, 64, 64), (1.0, 1.0, 1.0))
    ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    >>> choose_strides((64, 64, 10), (1.0, 1.0, 4.0))
    ((2, 2, 1), (2, 2, 2), (2, 2, 1))
    """
    size, edge = [float(min(n, 64)) for n in shape], list(spacing_mm)
    strides: list[Triple] = []
    while len(strides) < MAXIMUM_STRIDES:
        finest = min(e for e, n in zip(edge, size, strict=True) if n >= 2 * MINIMUM_EDGE or n == max(size))
        x, y, z = (2 if n >= 2 * MINIMUM_EDGE and e <= 2 * finest else 1 for n, e in zip(size, edge, strict=True))
        if x == y == z == 1:
            break
        stride = (x, y, z)
        strides.append(stride)
        size = [n / s for n, s in zip(size, stride, strict=True)]
        edge = [e * s for e, s in zip(edge, stride, strict=True)]
    return tuple(strides) or ((1, 1, 1),)


def shrink_to_limit(shape: Triple, limit: int) -> Triple:
    """Return about the largest shape of these proportions within `limit` voxels; thin axes keep their edge.

    Examples
    --------
    >>> shrink_to_limit((128, 128, 128), 64**3)
    (64, 64, 64)
    """
    edges = [float(n) for n in shape]
    while math.prod(edges) > limit:
        thick = [axis for axis in range(3) if edges[axis] > 2 * MINIMUM_EDGE]
        if not thick:
            break
        scale = (limit / math.prod(edges)) ** (1 / len(thick))
        for axis in thick:
            # At least a little smaller each time, so that rounding cannot make the loop endless.
            edges[axis] = max(2 * MINIMUM_EDGE, edges[axis] * min(scale, 0.999))
    x, y, z = (max(1, round(edge)) for edge in edges)
    return x, y, z


def choose_patch(shape: Triple, strides: Sequence[Triple], limit: int) -> PatchShape:
    """Return the shape of the patch for volumes of a median shape, and of the window if it differs.

    A volume within `limit` voxels is predicted whole: the window is the volume, padded to multiples of the product of
    the strides. The patch is then the largest multiple within the volume that covers at least 85 % of each edge, since
    padding costs time and teaches nothing.

    A larger volume is cut. Each cut takes one multiple off the axis that has the largest share of its volume left, and
    never leaves fewer than `MINIMUM_EDGE` voxels for the deepest level.

    Parameters
    ----------
    shape
        Median voxels of a volume along R, A, S.
    strides
        Strides of the network, the first from the image.
    limit
        Largest number of voxels of a patch.

    Examples
    --------
    >>> choose_patch((35, 50, 36), [(2, 2, 2)] * 3, limit=64**3).patch
    (32, 48, 32)
    """
    factor = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    edges = [math.ceil(n / f) * f for n, f in zip(shape, factor, strict=True)]
    cut = False
    while math.prod(edges) > limit:
        free = [axis for axis in range(3) if edges[axis] - factor[axis] >= factor[axis] * MINIMUM_EDGE]
        if not free:
            break
        axis = max(free, key=lambda axis: edges[axis] / shape[axis])
        edges[axis] -= factor[axis]
        cut = True
    whole: Triple = (edges[0], edges[1], edges[2])
    if not cut:
        below = [n // f * f for n, f in zip(shape, factor, strict=True)]
        edges = [
            b if b >= MINIMUM_SHARE * n and b >= f * MINIMUM_EDGE else e
            for b, e, n, f in zip(below, edges, shape, factor, strict=True)
        ]
    x, y, z = edges
    median = f"the median volume of {shape[0]} x {shape[1]} x {shape[2]} voxels"
    if cut:
        reason = f"{x} x {y} x {z} has about the proportions, within {limit:,} voxels, of {median}"
    elif whole == (x, y, z):
        reason = f"{x} x {y} x {z} holds {median}"
    else:
        window = " x ".join(map(str, whole))
        reason = f"{x} x {y} x {z} needs no padding in {median}; {window} are predicted at once"
    return PatchShape((x, y, z), None if whole == (x, y, z) else whole, reason)
