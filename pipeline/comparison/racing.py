"""A race: which losses are clearly losing after some of the blocks (fold x seed), and need not be trained on.

Error control over the whole race: the chance that the best loss is ever dropped is at most `alpha`. It is split over
the looks by an alpha-spending function of Pocock's kind [Lan and DeMets 1983], which gives early looks their part, and
over the opponents by Bonferroni: the best loss is dropped only if some other of the others seems better, at some look.
That needs nothing of how looks or losses depend on each other. A look that is left out leaves its part unspent.

Noise is estimated from folds, as in the verdict, yet pooled over the losses still in the race: after two or three folds
one pair's own two or three differences say next to nothing of their noise. Where the pair, or either of its losses, is
noisier than the pool, its own noise counts, so that an unstable loss is not judged by the quiet of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import e, inf, log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.comparison.controls import controls_of
from pipeline.comparison.pairing import Paired, pair, usable_rows
from pipeline.comparison.pairs import margin_of
from pipeline.comparison.phrases import amount, phrase
from pipeline.comparison.resampling import Units, units_of
from pipeline.comparison.variance import patient_covariance
from pipeline.errors import ConfigError, RecordError

Floats = NDArray[np.float64]
Block = tuple[int, int]
"""Fold and seed."""

FEWEST_BLOCKS = 2
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a loss is behind another, and the error of that; `gap` is positive where it is worse."""

    gap: float
    least: float
    largest: float


def drop(
    table: pd.DataFrame,
    planned_blocks: Sequence[Block],
    finished_blocks: Sequence[Block],
    *,
    metric: str = "dice",
    alpha: float = ALPHA,
    margins: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Return the losses that are clearly losing now, each with the reason in words.

    Parameters
    ----------
    table
        The long table so far, of all losses that began the race, those dropped before among them.
    planned_blocks, finished_blocks
        (fold, seed) of the whole race, and of those that every surviving loss has finished.
    metric
        By which the race is run.
    alpha
        Chance, over the whole race, of dropping the best loss.
    margins
        As in `compare`: a loss behind by less than what does not matter stays in the race.

    Notes
    -----
    Losses without results of some finished block (dropped before, or collapsed there) are neither dropped nor compared
    with. A control (``dice-aa``) is dropped with its loss and never for itself. Pure: the same table, the same answer.

    Raises
    ------
    ConfigError
        For an alpha out of range, or a finished block that was not planned.
    RecordError
        Where the table is malformed.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha {alpha:g}", "is out of range", "give e.g. 0.05")
    planned, finished = list(dict.fromkeys(planned_blocks)), list(dict.fromkeys(finished_blocks))
    strange = [block for block in finished if block not in planned]
    if strange:
        raise ConfigError(f"block {strange[0]}", "is finished but was not planned", "give every (fold, seed)")
    if not FEWEST_BLOCKS <= len(finished) < len(planned):
        return {}
    rows, _ = usable_rows(table)
    entrants = list(dict.fromkeys(str(name) for name in table["loss"]))
    controls = controls_of(entrants, entrants)
    rows = rows[rows["metric"] == metric]
    if rows.empty:
        raise RecordError("the table", f"has no {metric}", "race by a metric that it has")
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
    level = spent(len(finished), len(planned), alpha) / (len(entrants) - len(controls) - 1)
    when = f"after {len(finished)} of {len(planned)} blocks"
    reasons = {
        name: f"behind {leader} by {amount(metric, gap.gap)} of {phrase(metric)} {when} "
        f"(at least {amount(metric, gap.least)}, at the level of this look)"
        for name, (leader, gap) in losing(paired, level, margin_of(metric, margins)).items()
    }
    for control, loss in controls.items():
        if loss in reasons and control in racing:
            reasons[control] = f"a control of {loss}, which is dropped"
    return reasons


def spent(look: int, looks: int, alpha: float) -> float:
    """Return the part of alpha for one look of all, by Pocock's spending function; the parts add up to alpha."""
    return alpha * (log(1 + (e - 1) * look / looks) - log(1 + (e - 1) * (look - 1) / looks))


def losing(paired: Paired, level: float, margin: float) -> dict[str, tuple[str, Gap]]:
    """Return the losses that some other beats at one-sided `level`, by more than the margin as it looks.

    Each with the loss that is furthest ahead of it.
    """
    units = units_of(paired)
    sign = 1.0 if paired.higher_is_better else -1.0
    lost = {}
    for i, name in enumerate(paired.losses):
        found = {
            other: gap_of(sign * paired.values, sign * paired.seeds, units, j, i, level)
            for j, other in enumerate(paired.losses)
            if j != i
        }
        ahead = {other: gap for other, gap in found.items() if gap.least > 0 and gap.gap > margin}
        if ahead:
            lost[name] = max(ahead.items(), key=lambda item: item[1].gap)
    return lost


def gap_of(values: Floats, seeds: Floats, units: Units, ahead: int, behind: int, level: float) -> Gap:
    """Return how far one loss is ahead of another, with one-sided bounds at `level`; larger values are better.

    With two folds or more over the means of folds (of all their seeds); with one fold over seeds, to which the noise by
    patients is added, each with its own t quantile.
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
    half = sqrt(sum(float(stdtrit(degrees, 1 - level)) ** 2 * variance for variance, degrees in parts))
    return Gap(gap, gap - half, gap + half)


def _pooled(means: Floats, first: int, second: int) -> tuple[float, int]:
    """Return the variance of the mean difference of two rows of (losses, units), and the degrees of freedom of it.

    The pooled one is of what is left after losses and units. The pair's own, and twice that of the noisier of the two,
    are taken where they are larger.
    """
    losses, count = means.shape
    if count < 2:
        return inf, 0
    left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    degrees = (losses - 1) * (count - 1)
    pooled = 2 * float(np.sum(left**2)) / degrees
    own = float((means[first] - means[second]).var(ddof=1))
    noisier = 2 * float(np.sum(left[[first, second]] ** 2, axis=1).max()) * losses / (losses - 1) / (count - 1)
    return max(pooled, own, noisier) / count, degrees
