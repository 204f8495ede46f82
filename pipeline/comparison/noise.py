"""Estimate the noise floor: how much the result of a loss changes if it is trained again with another seed."""

import math

import numpy as np

from pipeline.comparison.pairing import Paired
from pipeline.records.verdict import NoiseFloor

NOT_MEASURED = "one seed: not measured"
"""Reason why a noise floor has no value."""


def noise_floor(paired: Paired) -> NoiseFloor:
    """Return the standard deviations between seeds of one loss, for the mean over cases and for a single case.

    `sd_between_seeds` is pooled over losses, `per_loss` has the value of each loss, and `largest_gap` is the largest
    difference between the means of two seeds of one loss. All are None if no loss has two seeds on all cases.
    """
    seeds = paired.values_by_seed.shape[1]
    complete_seeds = np.asarray(np.isfinite(paired.values_by_seed).all(axis=2))
    per_loss: dict[str, float | None] = {}
    variances, of_cases, gaps = [], [], []
    for name, of_seeds, complete in zip(paired.losses, paired.values_by_seed, complete_seeds, strict=True):
        values = of_seeds[complete]
        per_loss[name] = None
        if len(values) > 1:
            means = values.mean(axis=1)
            variances.append((len(values) - 1, float(means.var(ddof=1))))
            of_cases.append(float(values.var(axis=0, ddof=1).mean()))
            gaps.append(float(np.ptp(means)))
            per_loss[name] = math.sqrt(variances[-1][1])
    if not variances:
        return NoiseFloor(seeds=seeds, per_loss=per_loss, why=NOT_MEASURED)
    degrees = sum(weight for weight, _ in variances)
    return NoiseFloor(
        sd_between_seeds=math.sqrt(sum(weight * variance for weight, variance in variances) / degrees),
        sd_of_a_case=math.sqrt(sum(of_cases) / len(of_cases)),
        largest_gap=max(gaps),
        seeds=seeds,
        per_loss=per_loss,
    )
