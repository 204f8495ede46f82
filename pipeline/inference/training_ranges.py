"""Comparison of a case with the ranges of spacing, size and intensity that the model was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.inference.images import ImageFacts

SPACING_TOLERANCE = 0.1
"""Part of a limit by which a spacing may lie outside of the training range."""

SIZE_TOLERANCE = 0.25
"""Part of a limit by which a size in voxels may lie outside of the training range."""

_AXES = ("left-right", "back-front", "foot-head")

Range = tuple[float, float]
"""The lowest and the highest value."""


@dataclass(frozen=True, slots=True)
class TrainingRangeCheck:
    """Comparison with ranges over the training data; a range that is missing is not checked.

    Parameters
    ----------
    spacing_mm
        Spacing in mm along the axes R, A, S.
    shape_voxels
        Size in voxels along the axes R, A, S.
    intensity
        Intensity within the structures, one range for each channel.

    Examples
    --------
    >>> check = TrainingRangeCheck(intensity=((50.0, 400.0),))
    >>> check.result_warnings(np.array([10.0, 20.0, 30.0]), "MR")
    ['median intensity of MR in the result 20, structures in training 50 to 400']
    """

    spacing_mm: tuple[Range, ...] = ()
    shape_voxels: tuple[Range, ...] = ()
    intensity: tuple[Range, ...] = ()

    @classmethod
    def from_fingerprint(cls, fingerprint: Mapping[str, Sequence[Sequence[float]]]) -> "TrainingRangeCheck":
        """Return the check for the ``fingerprint`` of a bundle (see `pipeline.bundle.specification.BundleSpec`)."""
        spacing, shape, intensity = (
            tuple((low, high) for low, high in fingerprint.get(key, ())) for key in ("spacing_mm", "shape", "intensity")
        )
        return cls(spacing, shape, intensity)

    def image_warnings(self, image: ImageFacts, channels: Sequence[str]) -> list[str]:
        """Return a warning for each axis or channel of an image that lies outside of the ranges.

        Sizes may differ by `SIZE_TOLERANCE` and spacings by `SPACING_TOLERANCE`. A channel is outside if none of its
        values lies within the range.

        Parameters
        ----------
        image
            The checked image.
        channels
            Names of the channels, for the warnings.
        """
        warnings = []
        for axis, value, (low, high) in zip(_AXES, image.spacing_mm, self.spacing_mm, strict=False):
            if not low * (1 - SPACING_TOLERANCE) <= value <= high * (1 + SPACING_TOLERANCE):
                warnings.append(f"spacing {axis} {value:.3g} mm, trained on {_span(low, high)} mm")
        for axis, size, (low, high) in zip(_AXES, image.shape, self.shape_voxels, strict=False):
            if not low * (1 - SIZE_TOLERANCE) <= size <= high * (1 + SIZE_TOLERANCE):
                warnings.append(f"size {axis} {size} voxels, trained on {_span(low, high)}")
        for name, (least, most), (low, high) in zip(channels, image.intensity, self.intensity, strict=False):
            if most < low or least > high:
                warnings.append(
                    f"intensity of {name} {least:.4g} to {most:.4g}, structures in training {_span(low, high)}"
                )
        return warnings

    def result_warnings(self, inside: np.ndarray, channel: str) -> list[str]:
        """Return a warning if the median intensity of the segmented voxels lies outside of the range.

        Parameters
        ----------
        inside
            Values (N,) of the first channel within the result.
        channel
            Name of the first channel, for the warning.
        """
        if not self.intensity or not inside.size:
            return []
        low, high = self.intensity[0]
        median = float(np.median(inside))
        if low <= median <= high:
            return []
        return [f"median intensity of {channel} in the result {median:.4g}, structures in training {_span(low, high)}"]


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
