"""What follows from a fingerprint: how images are prepared and how large the network is, with the reason for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Normalisation = Literal["zscore", "zscore_nonzero", "ct"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of preprocessing and network, all axes in R, A, S order.

    `strides[i]` leads from level i to level i + 1, so there is one fewer than `channels`; `patch` is divisible by the
    product of the strides along each axis. `intensity_range`, `intensity_mean` and `intensity_std` (one per channel)
    matter for channels with normalisation "ct" only. `tolerance_mm` is that of the surface Dice (`nsd`).
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
