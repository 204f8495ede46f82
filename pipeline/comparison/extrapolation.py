"""Extrapolate the gap of two losses to the budget from which it would be within the margin.

The gap after b steps is assumed to follow ``A + C * b**-rate``: a power law that tends to any limit A, with any rate up
to `FASTEST`. A rate of 0 stands for a straight line over log b. No prior belief favors a gap that vanishes.

Three budgets determine such a curve. The interval has every budget B for which some curve reaches the margin at B and
agrees with the observed gaps (profile likelihood): its generalized squared distance from them exceeds that of the best
curve by less than the squared quantile of t. For a known rate, this is the exact t test of a linear combination of the
gaps. An interval is open if curves that never reach the margin agree with the gaps too, which is the usual case.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FARTHEST = 10.0
"""Largest budget to which gaps are extrapolated, as a multiple of the largest budget of the study."""

FASTEST = 2.0
"""Largest rate of a curve. With 2, a change shrinks to a quarter with each doubling of the budget."""

_SLOWEST = 1e-6
"""Rate that stands for 0 in formulas that divide by the rate."""

_FLOOR = 1e-4
"""Smallest eigenvalue of a covariance, as a share of the largest: a direction without observed noise is not exact."""

_RATES = np.linspace(0.0, FASTEST, 33)
_MULTIPLES = np.append(np.geomspace(1.0, FARTHEST, 41), np.inf)
_ZOOMS = 4


@dataclass(frozen=True, slots=True)
class Reach:
    """Budgets from which gaps would be within the margin, as multiples of the largest budget of the study (gaps,).

    Attributes
    ----------
    low, high
        Ends of the intervals, at least 1; infinite beyond `FARTHEST`.
    best
        The budget of the best curve; infinite if that curve does not reach the margin up to `FARTHEST`.
    """

    low: Floats
    best: Floats
    high: Floats


def reach_of(gaps: Floats, covariance: Floats, steps: Floats, margin: float, critical: Floats) -> Reach:
    """Return from which budgets gaps would be within the margin.

    Parameters
    ----------
    gaps
        Differences at two or three budgets, signed such that the last one is positive (gaps, budgets).
    covariance
        Covariance of the differences of each gap (gaps, budgets, budgets).
    steps
        The budgets, ascending (budgets,).
    margin
        Difference that does not matter, in the unit of the gaps.
    critical
        Two-sided quantile of t of each gap (gaps,).

    Examples
    --------
    A gap that halves with each fourfold budget, from 4 to 2 to 1, is 0.5 after four times the largest budget.

    >>> quiet = 1e-6 * np.eye(3)[None]
    >>> reach = reach_of(np.array([[4.0, 2.0, 1.0]]), quiet, np.array([1.0, 4.0, 16.0]), 0.5, np.array([2.8]))
    >>> reach.best.round(2), reach.high.round(1)
    (array([4.]), array([4.]))
    """
    curves = _Curves.of(gaps, covariance, steps, margin)
    least, rate = _zoomed(curves.misfit, (len(gaps),))
    best = curves.reached(rate)
    at = _zoomed(curves.distance, (len(gaps), _MULTIPLES.size))[0]
    # No curve that is at the margin when the best one is, be that never or before the largest budget, is nearer.
    at[:, -1] = np.where(np.isinf(best), least, at[:, -1])
    at[:, 0] = np.where(best == 1, least, at[:, 0])
    low, high = _ends(at - least[:, None] - critical[:, None] ** 2, best)
    return Reach(low, np.where(best > FARTHEST, np.inf, best), high)


def _fall(rates: Floats, multiples: Floats) -> Floats:
    """Return how far a curve with slope 1 over log b at the largest budget has fallen at multiples of that budget."""
    rates = np.maximum(rates, _SLOWEST)
    fallen: Floats = -np.expm1(-rates * np.log(multiples)) / rates
    return fallen


def _zoomed(distance: Callable[[Floats], Floats], shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the smallest distance over all rates, and its rate, for each element; `distance` maps (*shape, rates)."""
    rates, step = np.broadcast_to(_RATES, (*shape, _RATES.size)), _RATES[1]
    for _ in range(_ZOOMS):
        best = np.take_along_axis(rates, distance(rates).argmin(axis=-1)[..., None], axis=-1)
        rates = np.clip(best + step * np.linspace(-1, 1, 9), 0.0, FASTEST)
        step /= 4
    values = distance(rates)
    best = np.take_along_axis(rates, values.argmin(axis=-1)[..., None], axis=-1)
    return values.min(axis=-1), best[..., 0]


def _ends(excess: Floats, best: Floats) -> tuple[Floats, Floats]:
    """Return the first and the last multiple whose excess over the limit is not above 0 (gaps, multiples).

    Between multiples, the excess is interpolated over log b. The interval contains the best multiple, even if it is so
    short that it lies between two others.
    """
    inside = excess <= 0
    log = np.log(_MULTIPLES[:-1])
    low = np.where(best > FARTHEST, np.inf, best)
    high = np.where(inside[:, -1], np.inf, low)
    for row in range(len(excess)):
        finite = np.flatnonzero(inside[row, :-1])
        if finite.size:
            first, last = int(finite[0]), int(finite[-1])
            begin = np.exp(_zero(excess[row], log, first, first - 1)) if first else 1.0
            low[row] = min(low[row], begin)
            beyond = last + 1 == log.size
            end = np.inf if beyond else np.exp(_zero(excess[row], log, last, last + 1))
            high[row] = max(high[row], end)
    return low, high


def _zero(excess: Floats, log: Floats, inside: int, outside: int) -> float:
    """Return where the excess is 0 between a multiple inside the interval and its neighbor outside."""
    share = -excess[inside] / (excess[outside] - excess[inside])
    return float(log[inside] + share * (log[outside] - log[inside]))


@dataclass(frozen=True, slots=True)
class _Curves:
    """Observed gaps (gaps, budgets), and the squared distances of curves from them.

    `multiples` are the budgets of the study divided by the largest, `precision` is the inverse of `covariance`.
    """

    multiples: Floats
    gaps: Floats
    covariance: Floats
    precision: Floats
    margin: float

    @classmethod
    def of(cls, gaps: Floats, covariance: Floats, steps: Floats, margin: float) -> "_Curves":
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, _FLOOR * values[:, -1:])
        regular = (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)
        return cls(steps / steps[-1], gaps, regular, np.linalg.inv(regular), margin)

    def distance(self, rates: Floats) -> Floats:
        """Return the distance of the nearest falling curve of each rate that is at the margin at each multiple.

        Rates and distances are (gaps, multiples, rates). Such a curve is ``margin + slope * shape``.
        """
        shape = _fall(rates, _MULTIPLES[:, None])[..., None] - _fall(rates[..., None], self.multiples)
        above = self.gaps - self.margin
        weighted = np.einsum("gij,gj->gi", self.precision, above)
        along = np.maximum(np.einsum("gmri,gi->gmr", shape, weighted), 0.0)
        length = np.einsum("gmri,gij,gmrj->gmr", shape, self.precision, shape)
        distances: Floats = np.einsum("gi,gi->g", above, weighted)[:, None, None] - along**2 / length
        return distances

    def misfit(self, rates: Floats) -> Floats:
        """Return the distance of the nearest curve of each rate, wherever it is at the margin: (gaps, rates).

        Two budgets fit every rate; with three, the contrast that is 0 for all curves of a rate shows the distance.
        """
        if self.multiples.size < 3:
            return np.zeros(rates.shape)
        fall = _fall(rates[..., None], self.multiples)
        first, second = fall[..., 0], fall[..., 1]
        contrast = np.stack([second, -first, first - second], axis=-1)
        variance = np.einsum("gri,gij,grj->gr", contrast, self.covariance, contrast)
        distances: Floats = np.einsum("gri,gi->gr", contrast, self.gaps) ** 2 / variance
        return distances

    def reached(self, rates: Floats) -> Floats:
        """Return the multiple at which the nearest curve of a rate (gaps,) reaches the margin; infinite if never."""
        fall = _fall(rates[:, None], self.multiples)
        design = np.stack([np.ones_like(fall), -fall], axis=-1)
        normal = np.einsum("gki,gkl,glj->gij", design, self.precision, design)
        right = np.einsum("gki,gkl,gl->gi", design, self.precision, self.gaps)
        last, slope = np.linalg.solve(normal, right[..., None])[..., 0].T
        rates = np.maximum(rates, _SLOWEST)
        # The curve falls by slope / rate in all: it never reaches the margin if that is less than its distance from it.
        rest = 1 - rates * (last - self.margin) / np.where(slope > 0, slope, np.nan)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            reached = np.where(rest > 0, rest ** (-1 / rates), np.inf)
        multiples: Floats = np.where(last <= self.margin, 1.0, reached)
        return multiples
