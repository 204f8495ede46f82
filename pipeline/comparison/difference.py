"""The difference of two losses on the same cases, with what is known of its error."""

from dataclasses import dataclass
from itertools import combinations
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import Units
from pipeline.comparison.variance import MeanErrors

Floats = NDArray[np.float64]

DISAGREEMENT = 0.05
"""Level of the signed-rank test by which the typical case is said to point the other way than the mean."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of ``a - b`` over cases and its uncertainty.

    Attributes
    ----------
    mean, ci_low, ci_high
        In the metric's unit.
    tost_low, tost_high
        The 90 % interval, for two one-sided tests of equivalence at 5 %.
    standard_error, degrees
        Of the t distribution behind intervals and p.
    p_value
        Two-sided p of the mean difference, by the same standard error as the interval, before correction.
    error_patients, error_runs
        Standard errors that come from the choice of patients, and from the noise of trainings.
    replicated
        Whether the noise of trainings is known. If it is not, the interval is that of patients alone.
    median
        Median difference over patients: what happens in the typical case.
    p_wilcoxon
        Signed-rank test over patients. It knows nothing of trainings, and decides nothing.
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
        """Whether the losses are shown to differ by less than the margin (two one-sided tests at 5 %)."""
        return self.replicated and -margin < self.tost_low and self.tost_high < margin

    @property
    def mean_and_typical_case_disagree(self) -> bool:
        """Whether the mean favors one loss, and the typical patient clearly the other."""
        return self.mean * self.rank_biserial < 0 and self.p_wilcoxon < DISAGREEMENT


def all_differences(
    paired: Paired, units: Units, errors: MeanErrors, confidence: float
) -> dict[tuple[int, int], Difference]:
    """Return the differences of all pairs of losses by their positions; none for fewer than two patients.

    Parameters
    ----------
    paired
        Values of each loss and case.
    units
        Folds and patients of the cases.
    errors
        Of the mean differences, from `pipeline.comparison.variance.mean_errors`.
    confidence
        Of the intervals.
    """
    if units.patient_count < 2:
        return {}
    pairs = combinations(range(len(paired.losses)), 2)
    return {pair: _difference(paired, units, errors, pair, confidence) for pair in pairs}


def _difference(
    paired: Paired, units: Units, errors: MeanErrors, pair: tuple[int, int], confidence: float
) -> Difference:
    each = paired.values[pair[0]] - paired.values[pair[1]]
    mean = float(np.average(each, weights=paired.weights))
    variance, degrees = float(errors.variance[pair]), float(errors.degrees[pair])
    error, by_patients = sqrt(variance), float(errors.patients[pair])
    # without an error every fold has exactly the same difference
    p_value = float(2 * stats.t.sf(abs(mean) / error, degrees)) if error > 0 else float(mean == 0)
    half = error * float(stats.t.isf((1 - confidence) / 2, degrees))
    tost = error * float(stats.t.isf(0.05, degrees))
    of_patients = np.bincount(units.patients, each) / np.bincount(units.patients)
    spread = float(of_patients.std(ddof=1))
    return Difference(
        mean,
        mean - half,
        mean + half,
        mean - tost,
        mean + tost,
        standard_error=error,
        degrees=degrees,
        p_value=p_value,
        error_patients=sqrt(min(by_patients, variance)),
        error_runs=sqrt(max(0.0, variance - by_patients)),
        replicated=errors.replicated,
        median=float(np.median(of_patients)),
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


def critical_value(degrees: float, level: float) -> float:
    """Return the two-sided critical value of the t distribution, infinite for no degrees of freedom."""
    return float(stats.t.isf(level / 2, degrees)) if degrees > 0 else inf
