"""What a study could have found, and what it would take to find the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, inf, isfinite, sqrt

from scipy import optimize, stats

from pipeline.comparison.difference import Difference

POWER = 0.8


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule by which a difference counts as found: |mean| above `critical` standard errors."""

    critical: float
    degrees: float
    standard_error: float

    @property
    def true_error(self) -> float:
        """The standard error corrected to have its median at the true one: with few folds it is mostly too small."""
        return self.standard_error * sqrt(self.degrees / float(stats.chi2.median(self.degrees)))

    def power(self, true_difference: float) -> float:
        """Return the chance that a difference of this size, in the metric's unit, is found (noncentral t)."""
        if self.standard_error == 0:
            return float(true_difference != 0)
        off = abs(true_difference) / self.true_error
        found = stats.nct.sf(self.critical, self.degrees, off) + stats.nct.cdf(-self.critical, self.degrees, off)
        return float(min(1.0, found)) if isfinite(found) else 1.0

    def detectable(self, power: float = POWER) -> float:
        """Return the smallest difference that is found with the given power."""
        if self.standard_error == 0:
            return 0.0
        top = 2.0 * (self.critical + float(stats.t.ppf(0.99, self.degrees)))
        root = optimize.brentq(lambda off: self.power(off * self.true_error) - power, 0.0, top, xtol=1e-4)
        return float(root) * self.true_error


def rule_of(found: Difference, confidence: float, comparisons: int) -> Rule:
    """Return the rule for this pair: the interval excludes 0, and the corrected signed-rank test agrees.

    The signed-rank test sees patients only; its part is approximated by a normal test at the first step of Holm.
    """
    if found.standard_error == 0:
        return Rule(0.0, found.degrees, 0.0)
    quantile = float(stats.norm.isf((1 - confidence) / (2 * max(comparisons, 1))))
    ranks = quantile * found.error_patients / found.standard_error
    return Rule(max(found.half_width / found.standard_error, ranks), found.degrees, found.standard_error)


@dataclass(frozen=True, slots=True)
class Needed:
    """What would decide a pair: cases in all, or seeds for each loss and fold, None where that alone would not.

    `factor` is by how much both would have to grow together.
    """

    cases: int | None
    seeds: int | None
    factor: float
    aim: str


def needed(found: Difference, rule: Rule, margin: float, cases: int, seeds: int) -> Needed:
    """Return what would decide a pair if the true difference is as it looks.

    A difference beyond the margin is to be shown; one within it is to be shown to be within. The noise by patients
    falls with their number, that of trainings with the seeds. Two folds of one seed leave one degree of freedom; what
    decides has many more, so that the normal quantiles stand in for it.
    """
    gap = abs(found.mean)
    few = found.degrees < 2
    after = float(stats.norm.ppf(POWER) if few else stats.t.ppf(POWER, found.degrees))
    if gap >= margin:
        aim, target = "difference", gap / ((float(stats.norm.ppf(0.975)) if few else rule.critical) + after)
    else:
        aim = "equivalence"
        widest = max(found.tost_high - found.mean, found.mean - found.tost_low)
        critical = widest / found.standard_error if found.standard_error else 0.0
        critical = float(stats.norm.ppf(0.95)) if few else critical
        target = (margin - gap) / (critical + after)
    patients, runs, goal = found.error_patients**2, found.error_runs**2, target**2
    factor = found.standard_error**2 / goal if goal else inf
    return Needed(_times(cases, patients, goal - runs), _times(seeds, runs, goal - patients), factor, aim)


def _times(now: int, variance: float, room: float) -> int | None:
    """Return how many instead of `now` bring a variance down to the room that is left for it."""
    if variance == 0 or room <= 0:
        return None
    return max(now + 1, ceil(now * variance / room))


def all_needed(each: Iterable[Needed], cases: int, seeds: int) -> dict[str, int | bool | None]:
    """Return what decides every pair: `cases` or `seeds`, each alone; or both `together` where neither would alone."""
    every = list(each)
    more_cases = max((item.cases or inf for item in every), default=inf)
    more_seeds = max((item.seeds or inf for item in every), default=inf)
    factor = max((item.factor for item in every), default=inf)
    together = not isfinite(more_cases) and not isfinite(more_seeds) and isfinite(factor)
    if together:
        more_cases, more_seeds = max(cases + 1, ceil(cases * factor)), max(seeds + 1, ceil(seeds * factor))
    return {
        "cases": int(more_cases) if isfinite(more_cases) else None,
        "seeds": int(more_seeds) if isfinite(more_seeds) else None,
        "together": together,
    }


def noise_of_gap(sd_between_seeds: float | None, seeds: int) -> float | None:
    """Return the standard deviation of the gap between two studies of one and the same loss."""
    return None if sd_between_seeds is None else sd_between_seeds * sqrt(2 / max(seeds, 1))
