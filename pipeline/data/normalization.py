"""Choice of the normalization of each channel, with the intensity statistics that it needs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.fingerprint import IntensityStatistics
from pipeline.data.plan import Normalization

MOSTLY_ZERO = 0.4
"""Share of zero voxels above which the zeros are taken for an erased background."""

HOUNSFIELD_MINIMUM = -500.0
"""A channel whose minimum is below this number is taken for CT: air has -1000 Hounsfield units."""


@dataclass(frozen=True, slots=True)
class ChannelNormalization:
    """Normalization of one channel.

    Attributes
    ----------
    kind
        ``ct`` clips to `intensity_range` and standardizes with `mean` and `std`; ``zscore`` standardizes each volume,
        ``zscore_nonzero`` over its voxels that are not 0.
    intensity_range
        Median over cases of the 0.5 and 99.5 percentiles of the foreground; (0, 1) without foreground.
    mean, std
        Of the foreground of all cases; 0 and 1 without foreground.
    reason
        Why this kind was chosen, for people.
    """

    kind: Normalization
    intensity_range: tuple[float, float]
    mean: float
    std: float
    reason: str


def choose_normalization(name: str, cases: Sequence[IntensityStatistics]) -> ChannelNormalization:
    """Return the normalization of a channel.

    Parameters
    ----------
    name
        Name of the channel; one with the word ``CT`` is taken for CT.
    cases
        Intensities of this channel in each case.

    Examples
    --------
    >>> mri = IntensityStatistics(0.0, 900.0, 100.0, 50.0, 0.01, 300.0, 60.0, 150.0, 600.0)
    >>> choose_normalization("T1", [mri]).kind, choose_normalization("CT", [mri]).kind
    ('zscore', 'ct')
    """
    zero = float(np.median([case.zero_fraction for case in cases]))
    lows = [case.foreground_percentile_00_5 for case in cases if case.foreground_percentile_00_5 is not None]
    highs = [case.foreground_percentile_99_5 for case in cases if case.foreground_percentile_99_5 is not None]
    means = [case.foreground_mean for case in cases if case.foreground_mean is not None]
    stds = [case.foreground_std for case in cases if case.foreground_std is not None]
    low, high = (float(np.median(lows)), float(np.median(highs))) if lows and highs else (0.0, 1.0)
    # The variance of all foreground voxels is the mean variance within cases plus the variance between their means.
    between = float(np.var(means)) if means else 0.0
    named_ct = "ct" in re.split("[^a-z0-9]+", name.lower())
    hounsfield = named_ct or float(np.median([case.minimum for case in cases])) < HOUNSFIELD_MINIMUM
    kind: Normalization
    if hounsfield and lows:
        kind = "ct"
        reason = f"{name}: Hounsfield units, clipped to {low:g}..{high:g} as in the foreground"
    elif zero > MOSTLY_ZERO:
        kind = "zscore_nonzero"
        reason = f"{name}: z-score over non-zero voxels, since {zero:.0%} are zero"
    else:
        kind = "zscore"
        reason = f"{name}: z-score of each volume, since intensities have no unit"
    return ChannelNormalization(
        kind=kind,
        intensity_range=(low, high),
        mean=float(np.mean(means)) if means else 0.0,
        std=float(np.sqrt(np.mean(np.square(stds)) + between)) if stds else 1.0,
        reason=reason,
    )
