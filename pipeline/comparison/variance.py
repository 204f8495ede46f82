"""Estimate how much the mean difference of two losses would vary if the study were repeated.

The independent units are trainings, not cases. All cases of a fold were predicted by the same training, so that means
of folds contain both the noise of patients and that of trainings. A test over cases would mistake the deviation of a
single training, which all cases of its fold share, for evidence about the loss.

Where folds are few, the noise of patients (from cases) and the noise of trainings (from seeds) are estimated separately
and added. `pipeline.comparison.moderation` improves the estimates from few trainings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.moderation import Estimate, moderated, pair_variances
from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import Units

Floats = NDArray[np.float64]

FEW_FOLDS = 3
"""Below this number of folds, seeds tell more about the noise of trainings than folds do."""

DEPENDENCE = 1.06
"""Factor on every standard error that allows for the dependence between folds.

Folds share most of their training cases, so that their trainings deviate alike and fold means look more certain than
they are. No study can estimate this from its own folds. The factor was fitted to simulated studies: false findings stay
below 5 % for independent folds, and at about 5 % if the trainings of two folds correlate by 0.03. The counts are in
docs/explanation/statistics.md.
"""

MOST_SEED_DEGREES = 8.0
"""Degrees of freedom that repeated seeds may add to those of folds.

Seeds share their training cases. More seeds measure the noise of a training ever more exactly, but tell nothing about
how training sets differ.
"""

# Table of the 97.5 % quantile of the t distribution by degrees of freedom, to look up degrees for a given quantile.
_DEGREES = np.geomspace(1, 1e6, 400)
_QUANTILES = stats.t.isf(0.025, _DEGREES)


@dataclass(frozen=True, slots=True)
class MeanErrors:
    """Errors of the mean differences of all pairs of losses.

    Attributes
    ----------
    variance, degrees
        Variance of the mean difference of each pair, and degrees of freedom of its t distribution (losses, losses).
    patients
        Part of the variance that comes from the choice of patients (losses, losses). Like `variance`, it includes the
        factor `DEPENDENCE`.
    of_loss, of_loss_degrees
        Variance of the mean of each loss apart from what all losses share (losses,), and its degrees of freedom.
    replicated
        True if the noise of trainings is known, either from at least two folds or seeds or as stated by the user.
    """

    variance: Floats
    degrees: Floats
    patients: Floats
    of_loss: Floats
    of_loss_degrees: float
    replicated: bool


def mean_errors(paired: Paired, units: Units, training_sd: float | None = None) -> MeanErrors:
    """Return the errors of all mean differences of a metric.

    With three folds or more, the fold means give the variance; seeds, if any, are pooled with them. With one or two
    folds and several seeds, the parts by patients and by seeds are added. Two folds without seeds are used as they are.
    With a single training of each loss, only the stated noise of trainings is known.

    Parameters
    ----------
    paired
        Values of each loss and case.
    units
        Folds and patients of the cases.
    training_sd
        Standard deviation of the mean over cases between two trainings of one loss, in the metric's unit. It is used
        only if the study has a single training of each loss.
    """
    patients, patients_degrees = patient_covariance(paired.values, paired.case_weights, units)
    from_patients = pair_variances(patients)
    seeds = _seed_covariance(paired, units)
    folds = units.fold_count
    replicated = folds > 1 or seeds is not None or training_sd is not None
    if folds >= FEW_FOLDS or (folds > 1 and seeds is None):
        estimate = moderated(*_fold_covariance(paired, units, patients))
        if seeds is not None:
            estimate = _with_seeds(estimate, _sum(from_patients, patients_degrees, moderated(*seeds)))
    elif seeds is not None:
        estimate = _sum(from_patients, patients_degrees, moderated(*seeds))
    else:
        stated = 0.0 if training_sd is None else training_sd**2
        count = len(paired.losses)
        off_diagonal = 1 - np.eye(count)
        known = Estimate(2 * stated * off_diagonal, np.full((count, count), np.inf), np.full(count, stated), np.inf)
        estimate = _sum(from_patients, patients_degrees, known)
    factor = DEPENDENCE**2
    return MeanErrors(
        variance=factor * estimate.pairs,
        degrees=estimate.degrees,
        patients=factor * from_patients,
        of_loss=factor * estimate.of_loss,
        of_loss_degrees=estimate.of_loss_degrees,
        replicated=replicated,
    )


def patient_covariance(values: Floats, case_weights: Floats, units: Units) -> tuple[Floats, float]:
    """Return the covariance of means due to the choice of patients within folds, and its degrees of freedom.

    The sum of a patient's deviations, not a single case, is the unit: scans of one patient are not independent.

    Parameters
    ----------
    values
        One row for each mean (rows, cases).
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
    # A fold of one patient does not show how patients differ: its deviation is 0, and it has no degree of freedom.
    scale = (patients / np.maximum(patients - 1, 1))[fold_of]
    covariance: Floats = (sums * scale) @ sums.T
    return covariance, float(max(int(np.sum(patients - 1)), 1))


def _fold_means(values: Floats, weights: Floats, units: Units) -> Floats:
    """Return the weighted mean of each fold: (..., cases) becomes (..., folds)."""
    rows = values.reshape(-1, values.shape[-1])
    sums = np.stack([np.bincount(units.folds, row * weights) for row in rows])
    means: Floats = sums / np.bincount(units.folds, weights)
    return means.reshape(*values.shape[:-1], -1)


def _fold_covariance(paired: Paired, units: Units, patients: Floats) -> tuple[Floats, float]:
    """Return the covariance of the losses' means as estimated from fold means, and its degrees of freedom.

    The mean over cases weights folds by their size. A small fold is noisier in its patients, but not in its training.
    The mixture of both is estimated from the data. It determines the scale and the degrees of freedom (Satterthwaite).

    Parameters
    ----------
    paired, units
        Values, folds and patients of the cases.
    patients
        Covariance due to the choice of patients (losses, losses).
    """
    weights = paired.case_weights / paired.case_weights.sum()
    share = np.bincount(units.folds, weights)
    means = _fold_means(paired.values, weights, units)
    centering = np.eye(share.size) - np.outer(np.ones(share.size), share)
    form = centering.T @ np.diag(share**2) @ centering
    raw = means @ form @ means.T
    losses = len(raw)
    of_pairs = max(losses * (losses - 1), 1)
    total, by_patients = (float(pair_variances(matrix).sum()) / of_pairs for matrix in (raw, patients))
    # The variance of a fold's mean due to patients is inverse to the fold's share; weighted by the squared shares,
    # these variances add up to that of the mean over all cases.
    of_patients = by_patients / share
    diagonal = np.diag(form)
    # What the raw variance exceeds the part due to patients by is due to trainings, the same for each fold.
    of_training = max(0.0, (total - float(diagonal @ of_patients)) / float(diagonal.sum()))
    of_folds = of_patients + of_training
    if not of_folds.any():
        of_folds = np.ones_like(share)
    # The quadratic form of fold means is a weighted sum of chi-square variables. Its expectation sets the scale, and
    # Satterthwaite's formula its degrees of freedom.
    expected = form * of_folds
    scale = float(share**2 @ of_folds) / float(np.trace(expected))
    degrees = float(np.trace(expected)) ** 2 / float(np.sum(expected * expected.T))
    covariance: Floats = scale * raw
    return covariance, degrees


def _seed_covariance(paired: Paired, units: Units) -> tuple[Floats, float] | None:
    """Return the covariance of the losses' means due to the noise of trainings, and its degrees of freedom.

    It is estimated from the seeds of each fold. None unless every fold has two seeds that all losses share.
    """
    weights = paired.case_weights / paired.case_weights.sum()
    share = np.bincount(units.folds, weights)
    losses = len(paired.losses)
    covariance, degrees = np.zeros((losses, losses)), 0
    for fold in range(units.fold_count):
        inside = np.flatnonzero(units.folds == fold)
        values, of_case = paired.values_by_seed[:, :, inside], weights[inside]
        complete = np.isfinite(values).all(axis=(0, 2))
        count = int(complete.sum())
        if count < 2:
            return None
        means = values[:, complete] @ of_case / of_case.sum()  # (losses, seeds)
        off = means - means.mean(axis=1, keepdims=True)
        covariance += share[fold] ** 2 * (off @ off.T) / (count * (count - 1))
        degrees += count - 1
    return covariance, float(degrees)


def _sum(patients: Floats, degrees: float, trainings: Estimate) -> Estimate:
    """Add the variance due to patients and that due to trainings.

    Parameters
    ----------
    patients
        Variances due to patients (losses, losses).
    degrees
        Degrees of freedom of `patients`.
    trainings
        Variances due to trainings.

    Notes
    -----
    The quantile of the sum is the mean of the quantiles of both parts, weighted by their variances [Cochran 1964]. A
    single t distribution with Welch's degrees of freedom would give intervals that are too short if the part with few
    degrees of freedom is small by chance. The degrees of freedom that have this quantile represent it, so that all
    later tests need only one t distribution.
    """
    total = patients + trainings.pairs
    quantiles = (
        stats.t.isf(0.025, degrees) ** 2 * patients + stats.t.isf(0.025, trainings.degrees) ** 2 * trainings.pairs
    )
    critical = np.sqrt(np.divide(quantiles, total, out=np.full(total.shape, 1.96**2), where=total > 0))
    # Quantiles fall with degrees of freedom, but `np.interp` requires increasing abscissas: hence the signs.
    of_sum = np.exp(np.interp(-critical, -_QUANTILES, np.log(_DEGREES)))
    count = len(patients)
    of_patients = patients.sum(axis=1) / max(2 * (count - 1), 1)
    least = float(of_sum[~np.eye(count, dtype=bool)].min(initial=np.inf))
    return Estimate(total, of_sum, of_patients + trainings.of_loss, min(least, 1e6))


def _with_seeds(folds: Estimate, seeds: Estimate) -> Estimate:
    """Combine the estimates of the same variances from folds and from seeds, weighted by degrees of freedom.

    Seeds do not show how training sets differ. If folds differ by more than seeds and patients explain (F test), the
    seeds lose their weight.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(seeds.pairs > 0, folds.pairs / seeds.pairs, 1.0)
    # Full weight down to p = 0.1; then in proportion to p.
    agreement = np.minimum(1.0, 10 * stats.f.sf(ratio, folds.degrees, seeds.degrees))
    worth = np.minimum(seeds.degrees, MOST_SEED_DEGREES) * agreement
    degrees = folds.degrees + worth
    pairs = (folds.degrees * folds.pairs + worth * seeds.pairs) / degrees
    weight = float(np.median(worth)) / float(np.median(degrees))
    of_loss = (1 - weight) * folds.of_loss + weight * seeds.of_loss
    return Estimate(pairs, degrees, of_loss, folds.of_loss_degrees + float(worth.min()))
