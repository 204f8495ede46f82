"""Intensity statistics of one channel, in blocks of voxels so that no whole volume is copied to float64."""

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.data.fingerprint import IntensityStatistics

_BLOCK = 1 << 18
"""Voxels per block."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class NonFinite:
    """Number of voxels of a channel that are NaN, infinite or beyond float32."""

    voxels: int


def scan_channel(
    stored: np.ndarray,
    slope: float,
    intercept: float,
    foreground: np.ndarray | None,
    digest: "hashlib._Hash",
) -> IntensityStatistics | NonFinite:
    """Return the statistics of one channel, or the number of its voxels that are not finite.

    Parameters
    ----------
    stored
        Stored numbers (N,) of the file.
    slope, intercept
        The values are ``stored * slope + intercept``.
    foreground
        Flat indices of the voxels with a label other than 0; None without a usable label.
    digest
        Updated with the values in single precision, so that the same image has the same hash however it is stored.

    Examples
    --------
    >>> channel = scan_channel(np.array([0, 1, 2, 3]), 2.0, 10.0, np.array([3]), hashlib.sha256())
    >>> channel.minimum, channel.maximum, channel.mean, channel.foreground_mean
    (10.0, 16.0, 13.0, 16.0)
    >>> scan_channel(np.array([0.0, np.nan, np.inf]), 1.0, 0.0, None, hashlib.sha256())
    NonFinite(voxels=2)
    """
    # Sums are of differences from the first value, so that a large offset costs no precision.
    offset = float(stored[0]) * slope + intercept
    offset = offset if abs(offset) <= _LARGEST else 0.0
    minimum, maximum, total, squares, zeros, non_finite = np.inf, -np.inf, 0.0, 0.0, 0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(stored), _BLOCK):
            block = _values(stored[start : start + _BLOCK], slope, intercept)
            zeros += len(block) - int(np.count_nonzero(block))
            low, high = float(block.min()), float(block.max())
            # A comparison with NaN is false, so "not <=" finds NaN as well.
            if not max(-low, high) <= _LARGEST:
                non_finite += int(np.count_nonzero(~(np.abs(block) <= _LARGEST)))
                continue
            minimum, maximum = min(minimum, low), max(maximum, high)
            digest.update(block.astype("<f4").tobytes())
            block -= offset
            total += float(block.sum())
            squares += float(np.square(block, out=block).sum())
    if non_finite:
        return NonFinite(non_finite)
    mean = total / len(stored)
    inside = None if foreground is None or not len(foreground) else _values(stored[foreground], slope, intercept)
    return IntensityStatistics(
        minimum=minimum,
        maximum=maximum,
        mean=offset + mean,
        std=float(np.sqrt(max(squares / len(stored) - mean * mean, 0.0))),
        zero_fraction=zeros / len(stored),
        foreground_mean=None if inside is None else float(inside.mean()),
        foreground_std=None if inside is None else float(inside.std()),
        foreground_percentile_00_5=None if inside is None else float(np.percentile(inside, 0.5)),
        foreground_percentile_99_5=None if inside is None else float(np.percentile(inside, 99.5)),
    )


def _values(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    values = stored.astype(np.float64)
    if slope != 1.0:
        values *= slope
    if intercept != 0.0:
        values += intercept
    return values
