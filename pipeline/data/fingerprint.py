"""What is measured of every case in one pass over its files, and of the dataset as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ChannelScan:
    """Intensity statistics of one channel of one case (after slope and intercept), over all voxels and foreground."""

    minimum: float
    maximum: float
    mean: float
    std: float
    zero_fraction: float
    foreground_mean: float | None
    foreground_std: float | None
    foreground_percentile_00_5: float | None
    foreground_percentile_99_5: float | None


@dataclass(frozen=True, slots=True)
class ClassScan:
    """Size of one class in one case. `extent_mm` is the bounding box of the class along the stored axes."""

    voxels: int
    volume_ml: float
    components: int
    smallest_component_ml: float | None
    largest_component_ml: float | None
    extent_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class CaseScan:
    """One case as measured.

    `shape`, `spacing_mm` are along the axes as stored; `orientation` names these axes, e.g. ``"LAS"``.
    `content_hash` is the SHA-256 over the bytes of the image files, then the label file.
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    content_hash: str
    dtype: str
    channels: tuple[ChannelScan, ...]
    classes: Mapping[int, ClassScan]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The scans of all usable cases, in the order of the dataset, and what follows for the whole."""

    scans: tuple[CaseScan, ...]

    def ras(self, scan: CaseScan) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Return shape and spacing_mm of `scan` with its axes permuted to R, A, S order."""
        order = [next(i for i, axis in enumerate(scan.orientation) if axis in pair) for pair in ("RL", "AP", "SI")]
        shape, spacing = scan.shape, scan.spacing_mm
        return (
            (shape[order[0]], shape[order[1]], shape[order[2]]),
            (spacing[order[0]], spacing[order[1]], spacing[order[2]]),
        )

    def median_spacing_mm(self) -> tuple[float, float, float]:
        """Median spacing along R, A, S."""
        x, y, z = np.median([self.ras(scan)[1] for scan in self.scans], axis=0)
        return float(x), float(y), float(z)

    def class_voxels(self) -> dict[int, int]:
        """Voxels of each label value, background included, over all cases."""
        totals: dict[int, int] = {}
        for scan in self.scans:
            for value, found in scan.classes.items():
                totals[value] = totals.get(value, 0) + found.voxels
        return dict(sorted(totals.items()))
