"""How far the mean difference of two losses would move if the study were repeated.

The independent units are trainings, not cases: all cases of a fold were predicted by the same training, so that fold
means carry both the noise of patients and that of trainings. A study has few folds, and a variance from five fold means
is itself uncertain by half. Losses of one study help each other out: the variance of every loss is *moderated*, that is
drawn towards what is typical of the other losses, as far as the losses look alike in this respect [Smyth 2004, limma].

A loss that is noisier than the others keeps its own variance, so that an unstable loss is not judged by the quiet of
the others; and each pair's own variance is mixed in, so that losses which move together or apart are noticed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import Units

Floats = NDArray[np.float64]

FEW_FOLDS = 3
"""Below this many folds, seeds tell more about trainings than folds do."""

DEPENDENCE = 1.06
"""Factor on every standard error for what folds share: most of their training cases.

False findings stay below 5 % where folds are independent, and at about 5 % where the trainings of two folds correlate
by 0.03 (docs/statistics.md has the counts).
"""

MOST_SEED_DEGREES = 8.0
"""Degrees of freedom that repeated seeds may add to those of the folds: seeds share their training cases."""


_DEGREES = np.geomspace(1, 1e6, 400)
_QUANTILES = stats.t.isf(0.025, _DEGREES)


@dataclass(frozen=True, slots=True)
class MeanErrors:
    """Errors of the mean differences of all pairs of losses.

    Attributes
    ----------
    variance, degrees
        Of the mean difference of each pair, with the degrees of freedom of its t distribution (losses, losses).
    patients
        The part of the variance that comes from the choice of patients (losses, losses). Like the variances it includes
        `DEPENDENCE`.
    of_loss, of_loss_degrees
        Variance of the mean of each loss, apart from what all losses share (losses,), and its degrees of freedom.
    replicated
        Whether the noise of trainings is known: from two folds or seeds or more, or stated by the user.
    """

    variance: Floats
    degrees: Floats
    patients: Floats
    of_loss: Floats
    of_loss_degrees: float
    replicated: bool


@dataclass(frozen=True, slots=True)
class _Estimate:
    """Pair variances with their degrees of freedom (losses, losses), and the variance of each loss (losses,)."""

    pairs: Floats
    degrees: Floats
    of_loss: Floats
    of_loss_degrees: float


def mean_errors(paired: Paired, units: Units, training_sd: float | None = None) -> MeanErrors:
    """Return the errors of all mean differences of a metric.

    Parameters
    ----------
    paired
        Values of each loss and case.
    units
        Folds and patients of the cases.
    training_sd
        Standard deviation between two trainings of one loss, of the mean over cases, in the metric's unit. It is used
        only where the study has a single training of each loss.
    """
    patients, patients_degrees = patient_covariance(paired.values, paired.weights, units)
    from_patients = _of_pairs(patients)
    seeds = _seed_covariance(paired, units)
    folds = units.fold_count
    replicated = folds > 1 or seeds is not None or training_sd is not None
    if folds >= FEW_FOLDS or (folds > 1 and seeds is None):
        found = _moderated(*_fold_covariance(paired, units, patients))
        if seeds is not None:
            found = _with_seeds(found, _sum(from_patients, patients_degrees, _moderated(*seeds)))
    elif seeds is not None:
        found = _sum(from_patients, patients_degrees, _moderated(*seeds))
    else:
        stated = 0.0 if training_sd is None else training_sd**2
        count = len(paired.losses)
        apart = 1 - np.eye(count)
        known = _Estimate(2 * stated * apart, np.full((count, count), np.inf), np.full(count, stated), np.inf)
        found = _sum(from_patients, patients_degrees, known)
    factor = DEPENDENCE**2
    return MeanErrors(
        variance=factor * found.pairs,
        degrees=found.degrees,
        patients=factor * from_patients,
        of_loss=factor * found.of_loss,
        of_loss_degrees=found.of_loss_degrees,
        replicated=replicated,
    )


def _of_pairs(covariance: Floats) -> Floats:
    """Return the variances of all differences from a covariance of means (losses, losses)."""
    own = np.diag(covariance)
    variances: Floats = np.maximum(own[:, None] + own[None, :] - covariance - covariance.T, 0.0)
    return variances


def patient_covariance(values: Floats, case_weights: Floats, units: Units) -> tuple[Floats, float]:
    """Return the covariance of means by the choice of patients within folds, and its degrees of freedom.

    Parameters
    ----------
    values
        (rows, cases): one row for each mean.
    case_weights
        Weight of each case (cases,).
    units
        Folds and patients of the cases.
    """
    weights = case_weights / case_weights.sum()
    means = _fold_means(values, weights, units)
    off = (values - means[:, units.folds]) * weights
    sums = np.stack([np.bincount(units.patients, row) for row in off])  # (losses, patients)
    fold_of = np.zeros(units.patient_count, dtype=np.int64)
    fold_of[units.patients] = units.folds
    patients = np.bincount(fold_of)
    # a fold of one patient says nothing of how patients differ: its deviation is 0, and it has no degree of freedom
    scale = (patients / np.maximum(patients - 1, 1))[fold_of]
    covariance: Floats = (sums * scale) @ sums.T
    return covariance, float(max(int(np.sum(patients - 1)), 1))


def _fold_means(values: Floats, weights: Floats, units: Units) -> Floats:
    """Return the weighted mean of each fold, (..., cases) to (..., folds)."""
    rows = values.reshape(-1, values.shape[-1])
    sums = np.stack([np.bincount(units.folds, row * weights) for row in rows])
    means: Floats = sums / np.bincount(units.folds, weights)
    return means.reshape(*values.shape[:-1], -1)


def _fold_covariance(paired: Paired, units: Units, patients: Floats) -> tuple[Floats, float]:
    """Return the covariance of the losses' means as the fold means show it, and its degrees of freedom.

    The mean over cases weighs folds by their size. A small fold is noisier in its patients, not in its training; how
    the two mix is estimated from the data and decides the scale and the degrees of freedom (Satterthwaite).
    """
    weights = paired.weights / paired.weights.sum()
    share = np.bincount(units.folds, weights)
    means = _fold_means(paired.values, weights, units)
    centering = np.eye(share.size) - np.outer(np.ones(share.size), share)
    form = centering.T @ np.diag(share**2) @ centering
    raw = means @ form @ means.T
    losses = len(raw)
    of_pairs = max(losses * (losses - 1), 1)
    total, by_patients = (float(_of_pairs(matrix).sum()) / of_pairs for matrix in (raw, patients))
    # of equal patients, the variance of a fold's mean falls with its share, and sums up to the variance of the mean
    of_patients = by_patients / share
    diagonal = np.diag(form)
    of_training = max(0.0, (total - float(diagonal @ of_patients)) / float(diagonal.sum()))
    of_folds = of_patients + of_training
    if not of_folds.any():
        of_folds = np.ones_like(share)
    expected = form * of_folds
    scale = float(share**2 @ of_folds) / float(np.trace(expected))
    degrees = float(np.trace(expected)) ** 2 / float(np.sum(expected * expected.T))
    covariance: Floats = scale * raw
    return covariance, degrees


def _seed_covariance(paired: Paired, units: Units) -> tuple[Floats, float] | None:
    """Return the covariance of the losses' means by the noise of trainings, from seeds; None without two everywhere."""
    weights = paired.weights / paired.weights.sum()
    share = np.bincount(units.folds, weights)
    losses = len(paired.losses)
    covariance, degrees = np.zeros((losses, losses)), 0
    for fold in range(units.fold_count):
        inside = np.flatnonzero(units.folds == fold)
        values, of_case = paired.seeds[:, :, inside], weights[inside]
        complete = np.isfinite(values).all(axis=(0, 2))
        count = int(complete.sum())
        if count < 2:
            return None
        means = values[:, complete] @ of_case / of_case.sum()  # (losses, seeds)
        off = means - means.mean(axis=1, keepdims=True)
        covariance += share[fold] ** 2 * (off @ off.T) / (count * (count - 1))
        degrees += count - 1
    return covariance, float(degrees)


def _moderated(covariance: Floats, degrees: float) -> _Estimate:
    """Return pair variances from a covariance of means with few degrees of freedom, moderated over the losses.

    Two losses have one pair, and nothing to learn from. With three or more, the variance of each loss on its own is
    separated from what all share, as in Grubbs' estimator, and drawn towards the geometric mean of the others. The
    weight of the others (prior degrees of freedom) is estimated from how much the variances of losses differ by more
    than chance. It vanishes for a loss that is noisier than the others (F test), and is never more than the degrees
    that all losses have together.
    """
    own = _of_pairs(covariance)
    losses = len(covariance)
    if losses < 3:
        half = own.max(initial=0.0) / 2
        return _Estimate(own, np.full(own.shape, degrees), np.full(losses, half), degrees)
    all_degrees = (losses - 1) * degrees
    variances = _variances_of_losses(covariance)
    if not variances.any():
        return _Estimate(own, np.full(own.shape, degrees), variances, degrees)
    bias = float(special.digamma(degrees / 2) - np.log(degrees / 2))
    logs = np.log(variances) - bias
    others = np.exp((logs.sum() - logs) / (losses - 1))
    noisier = stats.f.sf(variances / others, degrees, max(all_degrees - degrees, degrees))
    prior = _prior_degrees(logs, degrees, all_degrees) * np.minimum(1.0, 3 * noisier)
    moderated = (prior * others + degrees * variances) / (prior + degrees)
    of_loss = np.minimum(prior + degrees, all_degrees)
    together = moderated[:, None] + moderated[None, :]
    each = moderated**2 / of_loss
    satterthwaite = np.minimum(together**2 / (each[:, None] + each[None, :]), all_degrees)
    pairs = (satterthwaite * together + degrees * own) / (satterthwaite + degrees)
    np.fill_diagonal(pairs, 0.0)
    return _Estimate(pairs, satterthwaite, moderated, float(of_loss.min()))


def _variances_of_losses(covariance: Floats) -> Floats:
    """Return the variance of each loss's mean apart from what all losses share, at least a tenth of the average."""
    losses = len(covariance)
    centering = np.eye(losses) - 1 / losses
    residual = np.diag(centering @ covariance @ centering)
    total = float(residual.sum()) / (1 - 1 / losses)
    separated = (residual - total / losses**2) / (1 - 2 / losses)
    variances: Floats = np.maximum(separated, 0.1 * total / losses)
    return variances


def _prior_degrees(logs: Floats, degrees: float, most: float) -> float:
    """Return how many degrees of freedom the other losses are worth, from the spread of log variances."""
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, degrees / 2))
    if excess <= 0:
        return most
    return min(2 * _inverse_trigamma(excess), most)


def _inverse_trigamma(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton's method [Smyth 2004, appendix]."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


def _sum(patients: Floats, degrees: float, trainings: _Estimate) -> _Estimate:
    """Add the variance by patients to that by trainings.

    The quantile of the sum is that of the parts, weighed by their variances [Cochran 1964]: one t with Welch's degrees
    is too short where the part with few degrees happens to come out small.
    """
    total = patients + trainings.pairs
    quantiles = (
        stats.t.isf(0.025, degrees) ** 2 * patients + stats.t.isf(0.025, trainings.degrees) ** 2 * trainings.pairs
    )
    critical = np.sqrt(np.divide(quantiles, total, out=np.full(total.shape, 1.96**2), where=total > 0))
    # the degrees of freedom that have this quantile; quantiles fall with degrees, interpolation wants them to rise
    of_sum = np.exp(np.interp(-critical, -_QUANTILES, np.log(_DEGREES)))
    count = len(patients)
    of_patients = patients.sum(axis=1) / max(2 * (count - 1), 1)
    least = float(of_sum[~np.eye(count, dtype=bool)].min(initial=np.inf))
    return _Estimate(total, of_sum, of_patients + trainings.of_loss, min(least, 1e6))


def _with_seeds(folds: _Estimate, seeds: _Estimate) -> _Estimate:
    """Combine what folds and what seeds say of the same variances.

    Seeds know nothing of how training sets differ. Where folds differ by more than seeds and patients explain (F test),
    the seeds lose their weight.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(seeds.pairs > 0, folds.pairs / seeds.pairs, 1.0)
    doubt = np.minimum(1.0, 10 * stats.f.sf(ratio, folds.degrees, seeds.degrees))
    worth = np.minimum(seeds.degrees, MOST_SEED_DEGREES) * doubt
    degrees = folds.degrees + worth
    pairs = (folds.degrees * folds.pairs + worth * seeds.pairs) / degrees
    weight = float(np.median(worth)) / float(np.median(degrees))
    of_loss = (1 - weight) * folds.of_loss + weight * seeds.of_loss
    return _Estimate(pairs, degrees, of_loss, folds.of_loss_degrees + float(worth.min()))
