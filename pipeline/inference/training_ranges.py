"""What of a case lies outside of all that the model was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SPACING_LEEWAY = 0.1
SIZE_LEEWAY = 0.25
_AXES = ("left-right", "back-front", "foot-head")


def out_of_range(
    fingerprint: Mapping[str, Any],
    channels: Sequence[str],
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    intensity: Sequence[tuple[float, float]],
) -> list[str]:
    """Return a warning for each axis or channel of an image that lies outside the ranges of training.

    Parameters
    ----------
    fingerprint
        ``spacing_mm`` and ``shape`` with (low, high) for each axis R, A, S, ``intensity`` with (low, high) inside the
        structures for each channel. What is absent is not judged.
    shape, spacing_mm
        Of the image, R, A, S; sizes in voxels are given a leeway of a quarter, spacings one of a tenth.
    intensity
        Minimum and maximum of each channel; a warning where the image holds no value of the range at all.
    """
    warnings = []
    for axis, value, (low, high) in zip(_AXES, spacing_mm, fingerprint.get("spacing_mm", ()), strict=False):
        if not low * (1 - SPACING_LEEWAY) <= value <= high * (1 + SPACING_LEEWAY):
            warnings.append(f"spacing {axis} {value:.3g} mm, trained on {_between(low, high)} mm")
    for axis, value, (low, high) in zip(_AXES, shape, fingerprint.get("shape", ()), strict=False):
        if not low * (1 - SIZE_LEEWAY) <= value <= high * (1 + SIZE_LEEWAY):
            warnings.append(f"size {axis} {value} voxels, trained on {_between(low, high)}")
    for name, (least, most), (low, high) in zip(channels, intensity, fingerprint.get("intensity", ()), strict=False):
        if most < low or least > high:
            warnings.append(
                f"intensity of {name} {least:.4g} to {most:.4g}, structures in training {_between(low, high)}"
            )
    return warnings


def inside_out_of_range(fingerprint: Mapping[str, Any], channel: str, inside: np.ndarray) -> list[str]:
    """Return a warning where the median of what was segmented, values (N,) of the first channel, is out of range."""
    ranges = fingerprint.get("intensity", ())
    if not len(ranges) or not inside.size:
        return []
    low, high = ranges[0]
    median = float(np.median(inside))
    if low <= median <= high:
        return []
    return [f"median intensity of {channel} in the result {median:.4g}, structures in training {_between(low, high)}"]


def _between(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
