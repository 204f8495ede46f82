"""Improve variances with few degrees of freedom by what the losses of a study have in common.

A study has few folds, and a variance estimated from five fold means is itself uncertain by half. The variances of the
other losses are further evidence: each loss's variance is *moderated*, that is drawn toward the typical variance of the
others, as far as the losses look alike in this respect (empirical Bayes, as in limma [Smyth 2004]).

A loss that is noisier than the others retains its own variance, so that an unstable loss is not judged by the stability
of the others. Each pair's own variance is mixed in as well, since the trainings of two losses may vary together or in
opposite directions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Variances of mean differences and of means.

    Attributes
    ----------
    pairs, degrees
        Variance of the mean difference of each pair, and its degrees of freedom (losses, losses).
    of_loss
        Variance of the mean of each loss apart from what all losses share (losses,).
    of_loss_degrees
        Degrees of freedom of `of_loss`.
    """

    pairs: Floats
    degrees: Floats
    of_loss: Floats
    of_loss_degrees: float


def pair_variances(covariance: Floats) -> Floats:
    """Return the variances of all differences from a covariance of means (losses, losses).

    Rounding may leave a variance of identical losses slightly below 0; it is set to 0.

    Examples
    --------
    >>> pair_variances(np.array([[4.0, 1.0], [1.0, 2.0]])).tolist()
    [[0.0, 4.0], [4.0, 0.0]]
    """
    own = np.diag(covariance)
    variances: Floats = np.maximum(own[:, None] + own[None, :] - covariance - covariance.T, 0.0)
    return variances


def moderated(covariance: Floats, degrees: float) -> Estimate:
    """Return moderated variances from a covariance of means with few degrees of freedom.

    Two losses have a single pair, which leaves nothing to learn from. With three losses or more, the variance of each
    loss is separated from what all losses share, as in Grubbs' estimator, and drawn toward the geometric mean of the
    others. The weight of the others (prior degrees of freedom) is estimated from how much more the variances of the
    losses differ than by chance. The weight vanishes for a loss that is noisier than the others (F test). It never
    exceeds the degrees of freedom that all losses have together.

    Parameters
    ----------
    covariance
        Covariance of the means of the losses (losses, losses).
    degrees
        Degrees of freedom of the covariance.
    """
    own = pair_variances(covariance)
    losses = len(covariance)
    if losses < 3:
        half = own.max(initial=0.0) / 2
        return Estimate(own, np.full(own.shape, degrees), np.full(losses, half), degrees)
    all_degrees = (losses - 1) * degrees
    variances = _variances_of_losses(covariance)
    if variances.min() <= 0:  # losses without noise of their own, up to rounding
        return Estimate(own, np.full(own.shape, degrees), variances, degrees)
    # The logarithm of a variance estimated from few degrees of freedom is too small on average [Smyth 2004].
    bias = float(special.digamma(degrees / 2) - np.log(degrees / 2))
    logs = np.log(variances) - bias
    others = np.exp((logs.sum() - logs) / (losses - 1))
    p_noisier = stats.f.sf(variances / others, degrees, max(all_degrees - degrees, degrees))
    # Full weight down to p = 1/3, which a loss like the others exceeds in two of three studies; below, in proportion
    # to p.
    prior = _prior_degrees(logs, degrees, all_degrees) * np.minimum(1.0, 3 * p_noisier)
    variance = (prior * others + degrees * variances) / (prior + degrees)
    of_loss = np.minimum(prior + degrees, all_degrees)
    # Variance and degrees of freedom of a difference of two independent losses (Satterthwaite).
    together = variance[:, None] + variance[None, :]
    each = variance**2 / of_loss
    satterthwaite = np.minimum(together**2 / (each[:, None] + each[None, :]), all_degrees)
    # The pair's own variance counts with its own degrees: it alone shows whether two losses vary together.
    pairs = (satterthwaite * together + degrees * own) / (satterthwaite + degrees)
    np.fill_diagonal(pairs, 0.0)
    return Estimate(pairs, satterthwaite, variance, float(of_loss.min()))


def _variances_of_losses(covariance: Floats) -> Floats:
    """Return the variance of each loss's mean apart from what all losses share (losses,).

    Differences between losses are estimates, so that a separated variance may fall below 0. A tenth of the average is
    the lower limit: it allows a logarithm and costs little.
    """
    losses = len(covariance)
    centering = np.eye(losses) - 1 / losses
    residual = np.diag(centering @ covariance @ centering)
    total = float(residual.sum()) / (1 - 1 / losses)
    separated = (residual - total / losses**2) / (1 - 2 / losses)
    variances: Floats = np.maximum(separated, 0.1 * total / losses)
    return variances


def _prior_degrees(logs: Floats, degrees: float, most: float) -> float:
    """Return the degrees of freedom that the other losses are worth, from the spread of log variances.

    Chance alone spreads the logarithms by ``trigamma(degrees / 2)``. The more they spread beyond that, the less the
    losses have in common, and the less they tell about each other [Smyth 2004].
    """
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
