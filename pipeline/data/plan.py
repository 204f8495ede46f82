"""Settings of preprocessing and network that follow from a fingerprint, with the reason for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.records.tolerance import Tolerance

Normalization = Literal["zscore", "zscore_nonzero", "ct"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of preprocessing and network. All axes are in R, A, S order.

    The fields are stored in files of studies and bundles, which is why `normalisation` is spelled as it is.

    Attributes
    ----------
    spacing_mm
        Edges of a voxel after resampling.
    patch
        Voxels of a training patch. Like `window`, divisible by the product of stem and strides along each axis.
    batch
        Patches per training step.
    normalisation
        Kind of normalization of each channel (`pipeline.data.normalization`).
    intensity_range, intensity_mean, intensity_std
        Clipping range, mean and standard deviation of each channel; used for kind ``ct`` only.
    channels
        Features of each level of the network.
    strides
        ``strides[i]`` leads from level i to level i + 1, so there is one fewer than `channels`.
    tolerance_mm, class_tolerance_mm
        Tolerance of surface Dice (`nsd`), and that of classes with their own by name.
    metrics
        Names of the metrics to compute.
    reasons
        Reason for each setting, for people.
    stem
        Stride from the image to the first level and back; (1, 1, 1) for a first level at full resolution.
    window
        Voxels that are predicted at once; None for the patch.
    tta
        True if held-out cases are predicted with test-time augmentation (`pipeline.network.test_time_augmentation`).
    """

    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    batch: int
    normalisation: tuple[Normalization, ...]
    intensity_range: tuple[tuple[float, float], ...]
    intensity_mean: tuple[float, ...]
    intensity_std: tuple[float, ...]
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    tolerance_mm: float
    metrics: tuple[str, ...]
    reasons: Mapping[str, str]
    stem: tuple[int, int, int] = (1, 1, 1)
    window: tuple[int, int, int] | None = None
    tta: bool = False
    class_tolerance_mm: Mapping[str, float] = field(default_factory=dict)

    @property
    def inference_window(self) -> tuple[int, int, int]:
        """Voxels that are predicted at once, along R, A, S."""
        return self.window or self.patch

    @property
    def tolerance(self) -> Tolerance:
        """Tolerance of surface Dice in mm, with those of single classes."""
        return Tolerance(self.tolerance_mm, self.class_tolerance_mm)
