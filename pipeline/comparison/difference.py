"""The difference of two losses on the same cases, with what is known of its error.

Two things make a difference uncertain: which cases there are, and how one training happened to end. Cases of one fold
share the trainings that predicted them, so that folds, not cases, are independent: the interval is the wider of the
hierarchical bootstrap and a t interval over the means of folds. With fewer than three folds and two seeds or more, the
noise of patients and that of trainings are estimated apart and added. With one fold and one seed only cases are known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.resampling import Units

Floats = NDArray[np.float64]

FEW_FOLDS = 3
SAFETY = 0.8
"""Share of the error rate at which the t quantile is taken.

At the nominal rate exact assumptions give 5 % of false findings and approximate ones a little more; what is promised is
at most 5 % (docs/statistics.md has the counts).
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of ``a - b`` over cases and its uncertainty.

    Attributes
    ----------
    mean, ci_low, ci_high
        In the metric's unit.
    tost_low, tost_high
        Of the 90 % interval, for two one-sided tests of equivalence at 5 %.
    standard_error, degrees
        Of the t interval; degrees of a sum of two parts are Welch's.
    half_width
        Half of the interval, of which the t interval is a part.
    error_patients, error_runs
        Standard errors that come from the choice of patients, and from the noise of trainings.
    p_wilcoxon
        Signed-rank test over patients, before correction.
    cohen_dz, rank_biserial, superiority
        Effect sizes over patients: mean by standard deviation of differences, matched rank-biserial correlation, and
        the share of patients on whom `a` has the larger value (ties half).
    """

    mean: float
    ci_low: float
    ci_high: float
    tost_low: float
    tost_high: float
    standard_error: float
    degrees: float
    half_width: float
    error_patients: float
    error_runs: float
    p_wilcoxon: float
    cohen_dz: float | None
    rank_biserial: float
    superiority: float

    def within(self, margin: float) -> bool:
        """Whether the 90 % interval lies inside ±margin (two one-sided tests at 5 %)."""
        return -margin < self.tost_low and self.tost_high < margin


def difference(each: Floats, by_seed: Floats, drawn: Floats, units: Units, confidence: float) -> Difference | None:
    """Return the difference of two losses, None for fewer than two patients.

    Parameters
    ----------
    each
        ``a - b`` of each case, averaged over seeds (cases,).
    by_seed
        The same for each seed that both losses have (seeds, cases), NaN where one was not trained.
    drawn
        The mean difference in each resample (resamples,).
    units
        Folds and patients of the cases.
    confidence
        Of the interval.
    """
    if units.patient_count < 2:
        return None
    mean = float(each.mean())
    parts, error_patients, error_runs = _parts(each, by_seed, units)
    error = sum(variance for variance, _ in parts) ** 0.5
    lost = sum(variance**2 / df for variance, df in parts)
    degrees = error**4 / lost if lost else parts[0][1]

    def interval(level: float) -> tuple[float, float]:
        # each part with its own t quantile [Cochran 1964]: one t with Welch's degrees is too short where the part with
        # few degrees happens to come out small
        tail = SAFETY * (1 - level) / 2
        half = sum(float(stats.t.isf(tail, df)) ** 2 * variance for variance, df in parts) ** 0.5
        low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
        return min(float(low), mean - half), max(float(high), mean + half)

    low, high = interval(confidence)
    of_patients = np.bincount(units.patients, each) / np.bincount(units.patients)
    spread = float(of_patients.std(ddof=1))
    return Difference(
        mean,
        low,
        high,
        *interval(0.9),
        standard_error=error,
        degrees=degrees,
        half_width=(high - low) / 2,
        error_patients=error_patients,
        error_runs=error_runs,
        p_wilcoxon=1.0 if not of_patients.any() else float(stats.wilcoxon(of_patients, zero_method="pratt").pvalue),
        cohen_dz=float(of_patients.mean()) / spread if spread > 1e-12 else None,
        rank_biserial=rank_biserial(of_patients),
        superiority=float(np.mean(of_patients > 0) + 0.5 * np.mean(of_patients == 0)),
    )


def rank_biserial(differences: Floats) -> float:
    """Return the matched rank-biserial correlation [Kerby 2014]: (ranks for - ranks against) / all, zeros left out."""
    moved = differences[differences != 0]
    if not moved.size:
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float(np.sum(np.sign(moved) * ranks) / ranks.sum())


def _parts(each: Floats, by_seed: Floats, units: Units) -> tuple[list[tuple[float, int]], float, float]:
    """Return the parts of the mean's variance with their degrees of freedom, and the errors by patients and by runs."""
    folds = units.fold_count
    share = np.bincount(units.folds, minlength=folds) / each.size
    patients, patients_df = patient_variance(each, units)
    runs, runs_df = _run_variance(by_seed, units, share)
    if folds >= FEW_FOLDS or (folds > 1 and runs is None):
        means = np.bincount(units.folds, each) / np.bincount(units.folds)
        total = folds / (folds - 1) * float(np.sum((share * (means - each.mean())) ** 2))
        if runs is None:
            patients, runs = _split(total, folds - 1, patients, patients_df)
        return [(total, folds - 1)], patients**0.5, runs**0.5
    if runs is None:
        return [(patients, patients_df)], patients**0.5, 0.0
    return [(patients, patients_df), (runs, runs_df)], patients**0.5, runs**0.5


def _split(total: float, folds_df: int, patients: float, patients_df: int) -> tuple[float, float]:
    """Return the parts by patients and by runs where each fold was trained once.

    Noise of trainings is taken as there only where folds differ by more than their patients explain (F test, 5 %).
    """
    if patients == 0 or total / patients > stats.f.isf(0.05, folds_df, patients_df):
        return patients, max(0.0, total - patients)
    return total, 0.0


def patient_variance(each: Floats, units: Units) -> tuple[float, int]:
    """Return the variance of the mean by the choice of patients within folds, and its degrees of freedom."""
    variance, degrees = 0.0, 0
    for fold in range(units.fold_count):
        inside = units.folds == fold
        _, patient = np.unique(units.patients[inside], return_inverse=True)
        count = int(patient.max()) + 1
        if count < 2:
            continue
        off = np.bincount(patient, each[inside] - each[inside].mean())
        variance += count / (count - 1) * float(np.sum(off**2))
        degrees += count - 1
    return variance / each.size**2, max(degrees, 1)


def _run_variance(by_seed: Floats, units: Units, share: Floats) -> tuple[float | None, int]:
    """Return the variance of the mean by the noise of trainings, from seeds; None where a fold has one seed only."""
    variance, degrees = 0.0, 0
    for fold in range(units.fold_count):
        inside = by_seed[:, units.folds == fold]
        means = inside[np.isfinite(inside).all(axis=1)].mean(axis=1)
        if means.size < 2:
            return None, 0
        variance += float(share[fold] ** 2 * means.var(ddof=1) / means.size)
        degrees += means.size - 1
    return variance, degrees
