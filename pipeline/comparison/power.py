"""What a study could have found, and how probable it is that a larger one would decide."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from pipeline.comparison.difference import Difference, critical_value
from pipeline.comparison.variance import DEPENDENCE

Floats = NDArray[np.float64]

POWER = 0.8
_PROBABILITIES = tuple((np.arange(9) + 0.5) / 9)
_NORMAL = special.ndtri((np.arange(61) + 0.5) / 61)
"""Equally probable values of a standard normal variable."""

MOST = 10.0
"""A study that is more times as large as this one is not realistic."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule by which a difference counts as found: |mean| above `critical` standard errors."""

    critical: float
    degrees: float
    standard_error: float

    @property
    def true_error(self) -> float:
        """The standard error without the allowance for dependent folds, corrected for how uncertain it is itself.

        With few degrees of freedom an estimated error is mostly too small. The correction was fitted so that the
        predicted power is right on average over studies (docs/statistics.md has the counts).
        """
        too_small = 5.4 / self.degrees**2 * max(1.0, 3 / self.degrees)
        return self.standard_error / DEPENDENCE * sqrt(1 + too_small)

    def power(self, true_difference: float) -> float:
        """Return the chance that a difference of this size, in the metric's unit, is found (noncentral t)."""
        if self.standard_error == 0:
            return float(true_difference != 0)
        off = abs(true_difference) / self.true_error
        limit = DEPENDENCE * self.critical
        found = stats.nct.sf(limit, self.degrees, off) + stats.nct.cdf(-limit, self.degrees, off)
        return float(min(1.0, found)) if isfinite(found) else 1.0

    def detectable(self, power: float = POWER) -> float:
        """Return the smallest difference that is found with the given power."""
        if self.standard_error == 0:
            return 0.0
        top = 2.0 * DEPENDENCE * (self.critical + float(stats.t.ppf(0.99, self.degrees)))
        root = optimize.brentq(lambda off: self.power(off * self.true_error) - power, 0.0, top, xtol=1e-4)
        return float(root) * self.true_error


def rule_of(found: Difference, confidence: float, comparisons: int) -> Rule:
    """Return the rule for this pair: the t test of its mean, at the first step of Holm's correction."""
    if found.standard_error == 0:
        return Rule(0.0, found.degrees, 0.0)
    critical = critical_value(found.degrees, (1 - confidence) / max(comparisons, 1))
    return Rule(critical, found.degrees, found.standard_error)


@dataclass(frozen=True, slots=True)
class Assurance:
    """The probability that a new study of a given size decides a pair.

    `expected` is averaged over what the true gap and the true noise may be, given those seen; `low` and `high` are the
    probability for a noise at the ends of its 80 % interval.
    """

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OpenPair:
    """A pair that the study leaves open.

    Attributes
    ----------
    found
        Its difference.
    level
        Of the two-sided test that must find it.
    margin
        Difference that does not matter.
    """

    found: Difference
    level: float
    margin: float

    def assurance(self, more_cases: float, more_seeds: float) -> Assurance:
        """Return the assurance of a study with so many times the cases, and the seeds, of this one."""
        ends = sorted(self._decides(more_cases, more_seeds, factor) for factor in self._noise((0.1, 0.9)))
        return Assurance(self.chance(more_cases, more_seeds), *ends)

    def chance(self, more_cases: float, more_seeds: float) -> float:
        """Return the probability that such a study decides, averaged over what the true noise may be."""
        factors = self._noise(_PROBABILITIES)
        return float(np.mean([self._decides(more_cases, more_seeds, factor) for factor in factors]))

    def _noise(self, probabilities: Sequence[float]) -> list[float]:
        """Return true errors, as multiples of the estimated one, with these posterior probabilities."""
        degrees = min(self.found.degrees, 1e6)
        return [float(value) for value in np.sqrt(degrees / stats.chi2.isf(probabilities, degrees))]

    def _decides(self, more_cases: float, more_seeds: float, noisier: float) -> float:
        now = noisier * self.found.standard_error / DEPENDENCE
        # the noise of patients is known from many cases; what is uncertain is that of the few trainings
        patients = self.found.error_patients / DEPENDENCE
        error = sqrt(patients**2 / more_cases + max(0.0, now**2 - patients**2) / more_seeds)
        if error == 0:
            return 1.0
        gaps = _true_gaps(self.found.mean, now, self.margin)
        # more trainings also tell more of their noise
        degrees = self.found.degrees * more_seeds
        found = DEPENDENCE * error * critical_value(degrees, self.level)
        same = self.margin - DEPENDENCE * error * critical_value(degrees, 0.1)
        if same >= found:
            return 1.0
        outside = special.ndtr((gaps - found) / error) + special.ndtr((-found - gaps) / error)
        inside = special.ndtr((same - gaps) / error) - special.ndtr((-same - gaps) / error) if same > 0 else 0.0
        return float(np.mean(outside + inside))


def _true_gaps(seen: float, error: float, margin: float) -> Floats:
    """Return equally probable values of the true gap, given the one seen.

    A gap that looks large is mostly one that chance has enlarged (the winner's curse). The true gap is taken as normal
    around 0, with a variance of what the gap seen exceeds its error by, and at least the margin; its posterior is
    drawn towards 0 accordingly [James and Stein 1961].
    """
    prior = max(margin**2, seen**2 - error**2)
    shrunk = prior / (prior + error**2)
    gaps: Floats = shrunk * seen + sqrt(shrunk) * error * _NORMAL
    return gaps


@dataclass(frozen=True, slots=True)
class Needed:
    """What would decide with 80 % probability: cases in all, seeds in all, or both; None where that would not.

    `assurance` is that of the plan named first, or where none is named that of ten times the cases and seeds, for the
    pair that is hardest to tell.
    """

    cases: int | None
    seeds: int | None
    together: bool
    assurance: Assurance


def needed(pairs: Sequence[OpenPair], cases: int, seeds: int) -> Needed:
    """Return the smallest study, up to ten times this one, that would probably decide every open pair."""
    factors = [float(f) for f in np.geomspace(1.1, MOST, 30)]

    def least(by_cases: bool, by_seeds: bool) -> float | None:
        def decides(factor: float) -> bool:
            plan = (factor if by_cases else 1.0, factor if by_seeds else 1.0)
            return all(pair.chance(*plan) >= POWER for pair in pairs)

        if not decides(factors[-1]):
            return None
        return factors[bisect_left(factors, True, key=decides)]

    more_cases, more_seeds = least(True, False), least(False, True)
    together = more_cases is None and more_seeds is None
    if together:
        more_cases = more_seeds = least(True, True)
    if more_cases is None and more_seeds is None:
        plan, together = (MOST, MOST), False
    elif together:
        plan = (more_cases or 1.0, more_seeds or 1.0)
    else:
        plan = (more_cases, 1.0) if more_cases else (1.0, more_seeds or 1.0)
    return Needed(
        None if more_cases is None else ceil(cases * more_cases),
        None if more_seeds is None else max(seeds + 1, ceil(seeds * more_seeds)),
        together,
        min((pair.assurance(*plan) for pair in pairs), key=lambda item: item.expected),
    )


def noise_of_gap(sd_between_seeds: float | None, seeds: int) -> float | None:
    """Return the standard deviation of the gap between two studies of one and the same loss."""
    return None if sd_between_seeds is None else sd_between_seeds * sqrt(2 / max(seeds, 1))
