"""The noise floor: how far a loss is from itself when it is trained again with another seed."""

import math

import numpy as np

from pipeline.comparison.pairing import Paired
from pipeline.records.verdict import NoiseFloor

WHY = "one seed: not measured"


def noise_floor(paired: Paired) -> NoiseFloor:
    """Return the standard deviation between seeds of one loss, of the mean over cases and of a single case.

    `sd_between_seeds` is pooled over losses, `per_loss` holds each loss's own, `largest_gap` is the largest difference
    between the means of two seeds of one loss. All are None where no loss has two seeds on all cases.
    """
    seeds = paired.seeds.shape[1]
    whole = np.asarray(np.isfinite(paired.seeds).all(axis=2))
    per_loss: dict[str, float | None] = {}
    variances, of_cases, gaps = [], [], []
    for name, values, complete in zip(paired.losses, paired.seeds, whole, strict=True):
        kept = values[complete]
        per_loss[name] = None
        if len(kept) > 1:
            means = kept.mean(axis=1)
            variances.append((len(kept) - 1, float(means.var(ddof=1))))
            of_cases.append(float(kept.var(axis=0, ddof=1).mean()))
            gaps.append(float(np.ptp(means)))
            per_loss[name] = math.sqrt(variances[-1][1])
    if not variances:
        return NoiseFloor(seeds=seeds, per_loss=per_loss, why=WHY)
    degrees = sum(weight for weight, _ in variances)
    return NoiseFloor(
        sd_between_seeds=math.sqrt(sum(weight * variance for weight, variance in variances) / degrees),
        sd_of_a_case=math.sqrt(sum(of_cases) / len(of_cases)),
        largest_gap=max(gaps),
        seeds=seeds,
        per_loss=per_loss,
    )
