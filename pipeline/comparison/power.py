"""Compute the differences that a study could find, and the probability that a larger study would decide."""

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
"""Probability with which a detectable difference is found, and a named study decides."""

_PROBABILITIES = tuple((np.arange(9) + 0.5) / 9)
"""Probabilities at which the true noise is evaluated, to average over it."""

_NORMAL = special.ndtri((np.arange(61) + 0.5) / 61)
"""Equally probable values of a standard normal variable."""

LARGEST_FACTOR = 10.0
"""Largest study that is considered, as a multiple of the present one; larger ones are not realistic."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule by which a difference counts as found: |mean difference| above `critical` standard errors.

    Attributes
    ----------
    critical
        Critical value of the t distribution.
    degrees
        Its degrees of freedom.
    standard_error
        Standard error of the mean difference, in the metric's unit.
    """

    critical: float
    degrees: float
    standard_error: float

    @property
    def true_error(self) -> float:
        """Standard error without the factor `DEPENDENCE`, corrected for its own uncertainty.

        With few degrees of freedom, an estimated error is usually too small: its distribution is skewed, with a median
        below its mean. Predicted power would then be too high. The correction, ``1 + 5.4 / degrees²`` and more below 3
        degrees of freedom, has no derivation. It was fitted to simulated studies such that predicted and observed power
        agree on average (docs/explanation/statistics.md has the counts).
        """
        too_small = 5.4 / self.degrees**2 * max(1.0, 3 / self.degrees)
        return self.standard_error / DEPENDENCE * sqrt(1 + too_small)

    def power(self, true_difference: float) -> float:
        """Return the probability that a difference of this size, in the metric's unit, is found (noncentral t)."""
        if self.standard_error == 0:
            return float(true_difference != 0)
        off = abs(true_difference) / self.true_error
        limit = DEPENDENCE * self.critical
        power = stats.nct.sf(limit, self.degrees, off) + stats.nct.cdf(-limit, self.degrees, off)
        # SciPy's noncentral t returns NaN far from the center, where the power is 1.
        return float(min(1.0, power)) if isfinite(power) else 1.0

    def detectable(self, power: float = POWER) -> float:
        """Return the smallest difference that is found with the given power, in the metric's unit."""
        if self.standard_error == 0:
            return 0.0
        # `brentq` needs an upper end (in true errors) whose power exceeds the target.
        top = 2.0 * DEPENDENCE * (self.critical + float(stats.t.ppf(0.99, self.degrees)))
        root = optimize.brentq(lambda off: self.power(off * self.true_error) - power, 0.0, top, xtol=1e-4)
        return float(root) * self.true_error


def rule_of(difference: Difference, confidence: float, comparisons: int) -> Rule:
    """Return the rule for a pair: the t test of its mean, at the first step of Holm's correction.

    The first step is the strictest one, so that the power is a lower limit.
    """
    if difference.standard_error == 0:
        return Rule(0.0, difference.degrees, 0.0)
    critical = critical_value(difference.degrees, (1 - confidence) / max(comparisons, 1))
    return Rule(critical, difference.degrees, difference.standard_error)


@dataclass(frozen=True, slots=True)
class Assurance:
    """Probability that a new study of a given size decides a pair.

    Attributes
    ----------
    expected
        Average over the possible values of the true difference and the true noise, given the observed ones.
    low, high
        Probability for a noise at the ends of its 80 % interval.
    """

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OpenPair:
    """Pair that the study leaves undecided.

    Attributes
    ----------
    observed
        Its difference in the study.
    level
        Level of the two-sided test that must find a difference.
    margin
        Difference that does not matter, in the metric's unit.
    """

    observed: Difference
    level: float
    margin: float

    def assurance(self, more_cases: float, more_seeds: float) -> Assurance:
        """Return the assurance of a study with these multiples of the cases and of the seeds of this one."""
        ends = sorted(self._decides(more_cases, more_seeds, factor) for factor in self._noise((0.1, 0.9)))
        return Assurance(self.chance(more_cases, more_seeds), *ends)

    def chance(self, more_cases: float, more_seeds: float) -> float:
        """Return the probability that such a study decides, averaged over the possible values of the true noise."""
        factors = self._noise(_PROBABILITIES)
        return float(np.mean([self._decides(more_cases, more_seeds, factor) for factor in factors]))

    def _noise(self, probabilities: Sequence[float]) -> list[float]:
        """Return true errors, as multiples of the estimated one, with these posterior probabilities.

        The estimated variance times its degrees of freedom, divided by the true variance, follows a chi-square
        distribution.
        """
        degrees = min(self.observed.degrees, 1e6)
        return [float(value) for value in np.sqrt(degrees / stats.chi2.isf(probabilities, degrees))]

    def _decides(self, more_cases: float, more_seeds: float, noisier: float) -> float:
        """Return the probability that a study decides, if the true error is `noisier` times the estimated one."""
        now = noisier * self.observed.standard_error / DEPENDENCE
        # The noise of patients is known from many cases; only the noise of the few trainings is uncertain.
        patients = self.observed.error_patients / DEPENDENCE
        error = sqrt(patients**2 / more_cases + max(0.0, now**2 - patients**2) / more_seeds)
        if error == 0:
            return 1.0
        gaps = _true_gaps(self.observed.mean, now, self.margin)
        # More trainings also give more degrees of freedom for their noise.
        degrees = self.observed.degrees * more_seeds
        # A mean beyond `different` is a difference; one within `same` is equivalence, by the 90 % interval.
        different = DEPENDENCE * error * critical_value(degrees, self.level)
        same = self.margin - DEPENDENCE * error * critical_value(degrees, 0.1)
        if same >= different:
            return 1.0
        outside = special.ndtr((gaps - different) / error) + special.ndtr((-different - gaps) / error)
        inside = special.ndtr((same - gaps) / error) - special.ndtr((-same - gaps) / error) if same > 0 else 0.0
        return float(np.mean(outside + inside))


def _true_gaps(observed: float, error: float, margin: float) -> Floats:
    """Return equally probable values of the true difference, given the observed one, in the metric's unit.

    An observed difference that is large has usually been enlarged by chance (winner's curse). The prior of the true
    difference is normal around 0. Its variance is the excess of the squared observed difference over the squared error,
    at least the squared margin. The posterior is drawn toward 0 accordingly [James and Stein 1961].
    """
    prior = max(margin**2, observed**2 - error**2)
    shrunk = prior / (prior + error**2)
    gaps: Floats = shrunk * observed + sqrt(shrunk) * error * _NORMAL
    return gaps


@dataclass(frozen=True, slots=True)
class DecidingStudy:
    """Smallest study that would decide with a probability of 80 %.

    Attributes
    ----------
    cases, seeds
        Total number of cases, or of seeds, that would decide; None if more of them would not.
    together
        True if both numbers are needed, rather than either of them.
    assurance
        Assurance of the pair that is hardest to decide: for the study with `cases`, else with `seeds`, else with ten
        times the cases and seeds.
    """

    cases: int | None
    seeds: int | None
    together: bool
    assurance: Assurance


def deciding_study(pairs: Sequence[OpenPair], cases: int, seeds: int) -> DecidingStudy:
    """Return the smallest study, up to ten times the present one, that would probably decide every open pair.

    Parameters
    ----------
    pairs
        Pairs that the study leaves undecided, at least one.
    cases, seeds
        Present numbers.
    """
    factors = [float(f) for f in np.geomspace(1.1, LARGEST_FACTOR, 30)]

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
        plan, together = (LARGEST_FACTOR, LARGEST_FACTOR), False
    elif together:
        plan = (more_cases or 1.0, more_seeds or 1.0)
    else:
        plan = (more_cases, 1.0) if more_cases else (1.0, more_seeds or 1.0)
    return DecidingStudy(
        None if more_cases is None else ceil(cases * more_cases),
        None if more_seeds is None else max(seeds + 1, ceil(seeds * more_seeds)),
        together,
        min((pair.assurance(*plan) for pair in pairs), key=lambda item: item.expected),
    )


def noise_of_gap(sd_between_seeds: float | None, seeds: int) -> float | None:
    """Return the standard deviation of the difference between two studies of the same loss, in the metric's unit."""
    return None if sd_between_seeds is None else sd_between_seeds * sqrt(2 / max(seeds, 1))
