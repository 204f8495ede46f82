"""Race losses: find those that are clearly behind after some of the blocks (fold x seed), to stop training them.

Error control over the whole race: the probability that the best loss is ever dropped is at most `alpha`. It is divided
among the looks by a Pocock-type alpha-spending function [Lan and DeMets 1983], which allows early decisions, and among
the opponents by Bonferroni: the best loss is dropped only if one of the others seems better at some look. This holds
whatever the dependence between looks or losses. A look that is omitted leaves its part of alpha unspent.

Noise is estimated from folds, as for the verdict, but pooled over the losses in the race: after two or three folds, the
two or three differences of one pair tell almost nothing about their noise. If the pair or one of its losses is noisier
than the pool, its own noise is used, so that an unstable loss is not judged by the stability of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import e, inf, log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.comparison.controls import controls_of
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import margin_of
from pipeline.comparison.phrases import amount, phrase
from pipeline.comparison.resampling import Units, units_of
from pipeline.comparison.variance import patient_covariance
from pipeline.errors import ConfigError, RecordError

Floats = NDArray[np.float64]
Block = tuple[int, int]
"""Fold and seed."""

FEWEST_BLOCKS = 2
"""Number of finished blocks at the first look."""

ALPHA = 0.05
"""Probability, over the whole race, of dropping the best loss."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Lead of one loss over another, in the metric's unit; positive if the other is behind.

    Attributes
    ----------
    gap
        Mean difference.
    least, largest
        One-sided confidence bounds.
    """

    gap: float
    least: float
    largest: float


def losses_to_drop(
    table: pd.DataFrame,
    planned_blocks: Sequence[Block],
    finished_blocks: Sequence[Block],
    *,
    metric: str = "dice",
    alpha: float = ALPHA,
    margins: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Return the losses that are clearly behind at this look, each with the reason in words.

    Parameters
    ----------
    table
        Long table of all losses that began the race, including those that were dropped before.
    planned_blocks, finished_blocks
        (fold, seed) of the whole race, and of the blocks that every remaining loss has finished.
    metric
        Metric of the race.
    alpha
        Probability, over the whole race, of dropping the best loss.
    margins
        Differences that do not matter, as in `ComparisonSettings`. A loss that is behind by less remains in the race.

    Raises
    ------
    ConfigError
        If alpha is out of range, or a finished block was not planned.
    RecordError
        If the table is malformed.

    Notes
    -----
    Losses without results for some finished block (dropped before, or collapsed there) are neither dropped nor used as
    opponents. A control (``dice-aa``) is dropped with its loss, and never by itself. The function is pure: it keeps no
    memory of earlier looks.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha {alpha:g}", "must lie between 0 and 0.5", "give 0.05, for example")
    planned, finished = list(dict.fromkeys(planned_blocks)), list(dict.fromkeys(finished_blocks))
    unplanned = [block for block in finished if block not in planned]
    if unplanned:
        raise ConfigError(f"block {unplanned[0]}", "is finished but was not planned", "give every (fold, seed)")
    if not FEWEST_BLOCKS <= len(finished) < len(planned):
        return {}
    rows, _ = usable_rows(table)
    entrants = list(dict.fromkeys(str(name) for name in table["loss"]))
    controls = controls_of(entrants, entrants)
    rows = rows[rows["metric"] == metric]
    if rows.empty:
        raise RecordError("the table", f"has no {metric}", "choose a metric that it has")
    in_blocks = pd.MultiIndex.from_frame(rows[["fold", "seed"]]).isin(finished)
    rows = rows[in_blocks]
    blocks = rows.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts()
    racing = [name for name in entrants if blocks.get(name, 0) == len(finished)]
    rivals = [name for name in racing if name not in controls]
    if len(rivals) < 2:
        return {}
    paired = pair(rows, metric, rivals)
    if paired is None or len(paired.losses) < 2:
        return {}
    level = alpha_of_look(len(finished), len(planned), alpha) / (len(entrants) - len(controls) - 1)
    when = f"after {len(finished)} of {len(planned)} blocks"
    reasons = {
        name: f"behind {leader} by {amount(metric, gap.gap)} of {phrase(metric)} {when} "
        f"(lower confidence bound: {amount(metric, gap.least)})"
        for name, (leader, gap) in clearly_behind(paired, level, margin_of(metric, margins)).items()
    }
    for control, loss in controls.items():
        if loss in reasons and control in racing:
            reasons[control] = f"a control of {loss}, which is dropped"
    return reasons


def alpha_of_look(look: int, looks: int, alpha: float) -> float:
    """Return the part of alpha for one look, by Pocock's spending function; the parts of all looks add up to alpha.

    Examples
    --------
    >>> round(alpha_of_look(1, 10, 0.05), 4), round(sum(alpha_of_look(look, 10, 0.05) for look in range(1, 11)), 4)
    (0.0079, 0.05)
    """
    return alpha * (log(1 + (e - 1) * look / looks) - log(1 + (e - 1) * (look - 1) / looks))


def clearly_behind(paired: Paired, level: float, margin: float) -> dict[str, tuple[str, Gap]]:
    """Return the losses that are clearly behind, each with the loss that has the largest lead over it.

    A loss is clearly behind another if the lead is above 0 at the one-sided `level`, and its estimate above the margin.
    """
    units = units_of(paired)
    sign = 1.0 if paired.higher_is_better else -1.0
    behind = {}
    for i, name in enumerate(paired.losses):
        gaps = {
            other: bounded_gap(sign * paired.values, sign * paired.values_by_seed, units, j, i, level)
            for j, other in enumerate(paired.losses)
            if j != i
        }
        ahead = {other: gap for other, gap in gaps.items() if gap.least > 0 and gap.gap > margin}
        if ahead:
            behind[name] = max(ahead.items(), key=lambda item: item[1].gap)
    return behind


def bounded_gap(values: Floats, seeds: Floats, units: Units, ahead: int, behind: int, level: float) -> Gap:
    """Return the lead of one loss over another, with one-sided bounds at `level`.

    With two folds or more, the units are the means of folds (over all seeds). With a single fold, they are seeds, and
    the noise of patients is added; each part has its own t quantile.

    Parameters
    ----------
    values
        Larger is better (losses, cases).
    seeds
        The same for each seed (losses, seeds, cases).
    units
        Folds and patients of the cases.
    ahead, behind
        Positions of both losses.
    level
        One-sided level of the bounds.
    """
    each = values[ahead] - values[behind]
    folds = units.fold_count
    if folds > 1:
        means = np.stack([np.bincount(units.folds, row) for row in values]) / np.bincount(units.folds)
        parts = [_pooled(means, ahead, behind)]
        gap = float((means[ahead] - means[behind]).mean())
    else:
        whole = np.isfinite(seeds).all(axis=(0, 2))
        by_patients, patients_degrees = patient_covariance(each[None], np.ones(each.size), units)
        parts = [
            _pooled(seeds[:, whole].mean(axis=2), ahead, behind),
            (float(by_patients[0, 0]), int(patients_degrees)),
        ]
        gap = float(each.mean())
    if any(degrees < 1 for _, degrees in parts):
        return Gap(gap, -inf, inf)
    # `stdtrit` is the t quantile without the overhead of `scipy.stats`; the tests run thousands of races.
    half = sqrt(sum(float(stdtrit(degrees, 1 - level)) ** 2 * variance for variance, degrees in parts))
    return Gap(gap, gap - half, gap + half)


def _pooled(means: Floats, first: int, second: int) -> tuple[float, int]:
    """Return the variance of the mean difference of two rows of `means` (losses, units), and its degrees of freedom.

    The pooled variance is that of the residuals after the effects of losses and units. The variance of the pair itself,
    or twice that of the noisier of its losses, is used if it is larger.
    """
    losses, count = means.shape
    if count < 2:
        return inf, 0
    residuals = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    degrees = (losses - 1) * (count - 1)
    pooled = 2 * float(np.sum(residuals**2)) / degrees
    own = float((means[first] - means[second]).var(ddof=1))
    noisier = 2 * float(np.sum(residuals[[first, second]] ** 2, axis=1).max()) * losses / (losses - 1) / (count - 1)
    return max(pooled, own, noisier) / count, degrees
