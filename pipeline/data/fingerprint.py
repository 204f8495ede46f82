"""Measurements of every case from one pass over its files, and of the dataset as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """Intensities of one channel after slope and intercept, over all voxels and over the foreground.

    Attributes
    ----------
    minimum, maximum, mean, std
        Over all voxels.
    zero_fraction
        Share of voxels that are exactly 0, in 0..1.
    foreground_mean, foreground_std, foreground_percentile_00_5, foreground_percentile_99_5
        Over the voxels with a label other than 0; None without such voxels.
    """

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
    """Size of one class in one case.

    Attributes
    ----------
    voxels, volume_ml
        Size of the class.
    components
        Number of components (26 neighbors); 0 for the background, whose components are not computed.
    smallest_component_ml, largest_component_ml
        Size of the smallest and of the largest component.
    extent_mm
        Edges of the bounding box of the class along the stored axes.
    """

    voxels: int
    volume_ml: float
    components: int
    smallest_component_ml: float | None
    largest_component_ml: float | None
    extent_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class CaseScan:
    """Measurements of one case.

    Attributes
    ----------
    case
        Id of the case.
    shape, spacing_mm
        Voxels, and edges of a voxel, along the stored axes.
    orientation
        Directions of the stored axes, e.g. ``"LAS"``.
    content_hash
        SHA-256 over the bytes of the image files, then the label file.
    dtype
        Data type of the first image file.
    channels
        Intensities of each channel.
    classes
        Size of each class by label value.
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    content_hash: str
    dtype: str
    channels: tuple[IntensityStatistics, ...]
    classes: Mapping[int, ClassScan]

    def in_ras(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Return shape and spacing in mm with the axes permuted to right, anterior, superior (R, A, S).

        Examples
        --------
        >>> CaseScan("a", (30, 20, 10), (3.0, 2.0, 1.0), "SAR", "", "int16", (), {}).in_ras()
        ((10, 20, 30), (1.0, 2.0, 3.0))
        """
        r, a, s = (next(i for i, axis in enumerate(self.orientation) if axis in pair) for pair in ("RL", "AP", "SI"))
        return (
            (self.shape[r], self.shape[a], self.shape[s]),
            (self.spacing_mm[r], self.spacing_mm[a], self.spacing_mm[s]),
        )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Measurements of all usable cases, in the order of the dataset."""

    scans: tuple[CaseScan, ...]

    def class_voxels(self) -> dict[int, int]:
        """Return the number of voxels of each label value over all cases, including the background."""
        totals: dict[int, int] = {}
        for scan in self.scans:
            for value, size in scan.classes.items():
                totals[value] = totals.get(value, 0) + size.voxels
        return dict(sorted(totals.items()))
