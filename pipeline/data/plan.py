"""What follows from a fingerprint: how images are prepared and how large the network is, with the reason for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.records.tolerance import Tolerance

Normalisation = Literal["zscore", "zscore_nonzero", "ct"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of preprocessing and network, all axes in R, A, S order.

    `stem` is the stride from the image to the first level and back, (1, 1, 1) for a first level at full resolution;
    `strides[i]` leads from level i to level i + 1, so there is one fewer than `channels`. `patch`, what is trained on,
    and `window`, what is predicted at once (None: the patch), are divisible by the product of stem and strides along
    each axis. `intensity_range`, `intensity_mean` and `intensity_std` (one per channel)
    matter for channels with normalisation "ct" only. `tolerance_mm` is the tolerance of surface Dice (`nsd`), and
    `class_tolerance_mm` that of classes with their own. With `tta` held-out cases are predicted with test-time
    augmentation (`pipeline.network.test_time_augmentation`).
    """

    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    batch: int
    normalisation: tuple[Normalisation, ...]
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
        """Shape of what is predicted at once."""
        return self.window or self.patch

    @property
    def tolerance(self) -> Tolerance:
        """Tolerance of surface Dice."""
        return Tolerance(self.tolerance_mm, self.class_tolerance_mm)
