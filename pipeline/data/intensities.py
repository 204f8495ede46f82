"""Intensity statistics of one channel, block by block, so that no volume is ever copied to float64."""

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.data.fingerprint import IntensityStatistics

_BLOCK = 1 << 18
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A channel that has voxels without a number."""

    voxels: int


def scan_channel(
    stored: np.ndarray,
    slope: float,
    intercept: float,
    foreground: np.ndarray | None,
    digest: "hashlib._Hash",
) -> IntensityStatistics | NonFinite:
    """Measure one channel.

    Parameters
    ----------
    stored
        Numbers (N,) as in the file; values are ``stored * slope + intercept``.
    foreground
        Flat indices of the voxels with a label, or None where there is no usable label.
    digest
        Is fed the values in single precision: the same for the same image, however it is stored.
    """
    # Sums are taken about one of the values, so that a large offset costs no precision.
    about = float(stored[0]) * slope + intercept
    about = about if abs(about) <= _LARGEST else 0.0
    minimum, maximum, total, squares, zeros, strange = np.inf, -np.inf, 0.0, 0.0, 0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(stored), _BLOCK):
            block = _values(stored[start : start + _BLOCK], slope, intercept)
            zeros += len(block) - int(np.count_nonzero(block))
            low, high = float(block.min()), float(block.max())
            if not max(-low, high) <= _LARGEST:
                strange += _strange_voxels(block)
                continue
            minimum, maximum = min(minimum, low), max(maximum, high)
            digest.update(block.astype("<f4").tobytes())
            block -= about
            total += float(block.sum())
            squares += float(np.square(block, out=block).sum())
    if strange:
        return NonFinite(strange)
    mean = total / len(stored)
    inside = None if foreground is None or not len(foreground) else _values(stored[foreground], slope, intercept)
    return IntensityStatistics(
        minimum=minimum,
        maximum=maximum,
        mean=about + mean,
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


def _strange_voxels(block: np.ndarray) -> int:
    """Count values that single precision, which networks see, has no number for."""
    return int(np.count_nonzero(~(np.abs(block) <= _LARGEST)))
