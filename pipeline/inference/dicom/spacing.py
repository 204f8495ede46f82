"""The spacing of a group of slices, as series rules compare it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pipeline.inference.dicom.rules import HeaderValue

PIXEL_SPACING, SLICE_SPACING = "PixelSpacing", "SpacingBetweenSlices"


class PlacedPlane(Protocol):
    """A slice and its geometry in mm; None if the header lacks a value."""

    @property
    def position_mm(self) -> tuple[float, ...] | None: ...  # noqa: D102
    @property
    def pixel_spacing_mm(self) -> tuple[float, ...] | None: ...  # noqa: D102


def spacing_values(planes: Sequence[PlacedPlane], orientation: tuple[float, ...] | None) -> dict[str, HeaderValue]:
    """Return the spacing of pixels and the median distance of neighboring slices in mm, by DICOM keyword.

    The distance is computed from the positions along the normal of the slices: scanners omit ``SpacingBetweenSlices``,
    and ``SliceThickness`` is a different quantity. A value that cannot be computed is missing.
    """
    values: dict[str, HeaderValue] = {}
    if planes and planes[0].pixel_spacing_mm:
        values[PIXEL_SPACING] = list(planes[0].pixel_spacing_mm)
    positions = [plane.position_mm for plane in planes if plane.position_mm and len(plane.position_mm) == 3]
    if orientation and len(orientation) == 6 and len(positions) > 1:
        normal = np.cross(orientation[:3], orientation[3:])
        gaps = np.diff(np.sort(np.asarray(positions) @ normal))
        if (gaps > 0).any():
            values[SLICE_SPACING] = float(np.median(gaps[gaps > 0]))
    return values
