"""Compute the difference of two losses on the same cases, its uncertainty and its effect sizes."""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import Units
from pipeline.comparison.signed_ranks import signed_rank_p
from pipeline.comparison.variance import MeanErrors

Floats = NDArray[np.float64]

NO_NOISE = 1e-9
"""A standard error below this share of the mean difference is due to rounding."""

DISAGREEMENT = 0.05
"""Level of the signed-rank test at which the typical case is reported to contradict the mean."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of ``a - b`` over cases, and its uncertainty.

    Attributes
    ----------
    mean, ci_low, ci_high
        Mean difference and its confidence interval, in the metric's unit.
    tost_low, tost_high
        90 % interval, for two one-sided tests (TOST) of equivalence at 5 %.
    standard_error, degrees
        Parameters of the t distribution behind intervals and p values.
    p_value
        Two-sided p value of the mean difference, from the same standard error as the interval, before correction.
    error_patients, error_runs
        Parts of the standard error due to the choice of patients and to the noise of trainings. The former is estimated
        from many patients. It can exceed `standard_error`, which is estimated from few trainings.
    replicated
        True if the noise of trainings is known. Otherwise the interval covers the choice of patients alone.
    median
        Median difference over patients, which describes the typical case.
    p_wilcoxon
        p value of the signed-rank test over patients. It ignores the noise of trainings, and decides nothing.
    cohen_dz, rank_biserial, superiority
        Effect sizes over patients: mean divided by standard deviation of the differences (None if all are equal),
        matched rank-biserial correlation, and share of patients for whom `a` has the larger value (ties count half).
    """

    mean: float
    ci_low: float
    ci_high: float
    tost_low: float
    tost_high: float
    standard_error: float
    degrees: float
    p_value: float
    error_patients: float
    error_runs: float
    replicated: bool
    median: float
    p_wilcoxon: float
    cohen_dz: float | None
    rank_biserial: float
    superiority: float

    def within(self, margin: float) -> bool:
        """Return whether the losses are shown to differ by less than the margin (two one-sided tests at 5 %).

        Both tests reject exactly if the 90 % interval lies within the margin.
        """
        return self.replicated and -margin < self.tost_low and self.tost_high < margin

    @property
    def mean_and_typical_case_disagree(self) -> bool:
        """True if the mean favors one loss, and the typical patient clearly the other."""
        return self.mean * self.rank_biserial < 0 and self.p_wilcoxon < DISAGREEMENT


def all_differences(
    paired: Paired, units: Units, errors: MeanErrors, confidence: float
) -> dict[tuple[int, int], Difference]:
    """Return the differences of all pairs of losses by their positions; an empty mapping for fewer than two patients.

    Parameters
    ----------
    paired
        Values of each loss and case.
    units
        Folds and patients of the cases.
    errors
        Errors of the mean differences, from `pipeline.comparison.variance.mean_errors`.
    confidence
        Confidence of the intervals, e.g. 0.95.
    """
    if units.patient_count < 2:
        return {}
    weights = paired.case_weights / paired.case_weights.sum()
    scans = np.bincount(units.patients)
    of_patients = np.stack([np.bincount(units.patients, row) for row in paired.values]) / scans
    critical, tost = (stats.t.isf(tail, errors.degrees) for tail in ((1 - confidence) / 2, 0.05))
    differences = {}
    for first in range(len(paired.losses) - 1):
        rest = slice(first + 1, None)
        means = (paired.values[first] - paired.values[rest]) @ weights
        error = np.sqrt(errors.variance[first, rest])
        # Folds with exactly the same difference do not show its noise: it is not significant, whatever its size.
        ratio = np.divide(np.abs(means), error, out=np.zeros_like(means), where=error > NO_NOISE * np.abs(means))
        p_values = 2 * stats.t.sf(ratio, errors.degrees[first, rest])
        typical = _typical(of_patients[first] - of_patients[rest])
        for offset, second in enumerate(range(first + 1, len(paired.losses))):
            pair = (first, second)
            mean, deviation = float(means[offset]), float(error[offset])
            half, tested = deviation * float(critical[pair]), deviation * float(tost[pair])
            by_patients = float(errors.patients[pair])
            differences[pair] = Difference(
                mean,
                mean - half,
                mean + half,
                mean - tested,
                mean + tested,
                standard_error=deviation,
                degrees=float(errors.degrees[pair]),
                p_value=float(p_values[offset]),
                error_patients=sqrt(by_patients),
                error_runs=sqrt(max(0.0, deviation**2 - by_patients)),
                replicated=errors.replicated,
                median=float(typical.median[offset]),
                p_wilcoxon=float(typical.p_wilcoxon[offset]),
                cohen_dz=float(typical.cohen_dz[offset]) if np.isfinite(typical.cohen_dz[offset]) else None,
                rank_biserial=float(typical.rank_biserial[offset]),
                superiority=float(typical.superiority[offset]),
            )
    return differences


@dataclass(frozen=True, slots=True)
class _Typical:
    """Median and effect sizes over patients of several pairs (pairs,)."""

    median: Floats
    p_wilcoxon: Floats
    cohen_dz: Floats
    rank_biserial: Floats
    superiority: Floats


def _typical(of_patients: Floats) -> _Typical:
    """Return effect sizes over patients from differences (pairs, patients)."""
    spread = of_patients.std(axis=1, ddof=1)
    moves = of_patients.any(axis=1)
    p_values = np.ones(len(of_patients))
    if moves.any():
        p_values[moves] = signed_rank_p(of_patients[moves])
    return _Typical(
        median=np.median(of_patients, axis=1),
        p_wilcoxon=p_values,
        cohen_dz=np.divide(of_patients.mean(axis=1), spread, out=np.full(spread.shape, np.nan), where=spread > 1e-12),
        rank_biserial=np.array([rank_biserial(row) for row in of_patients]),
        superiority=np.mean(of_patients > 0, axis=1) + 0.5 * np.mean(of_patients == 0, axis=1),
    )


def rank_biserial(differences: Floats) -> float:
    """Return the matched rank-biserial correlation [Kerby 2014] of differences (n,), without zeros.

    It is the sum of the ranks of positive differences minus that of negative ones, divided by the sum of all ranks.

    Examples
    --------
    >>> round(rank_biserial(np.array([3.0, -1.0, 2.0, 0.0])), 3)
    0.667
    """
    moved = differences[differences != 0]
    if not moved.size:
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float(np.sum(np.sign(moved) * ranks) / ranks.sum())


def critical_value(degrees: float, level: float) -> float:
    """Return the two-sided critical value of the t distribution; infinite without degrees of freedom.

    Examples
    --------
    >>> round(critical_value(4, 0.05), 2), critical_value(0, 0.05)
    (2.78, inf)
    """
    return float(stats.t.isf(level / 2, degrees)) if degrees > 0 else inf
