"""Rank losses, and compute how stable the ranks are."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.pairing import Paired
from pipeline.comparison.resampling import Units
from pipeline.comparison.variance import MeanErrors
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import MeanRanks, Ranking

Floats = NDArray[np.float64]

FRONT = ("dice", "hausdorff95_mm")
"""Metrics of the Pareto front."""

DRAWS = 2000
"""Number of redrawn rankings."""

FEWEST_FOLDS = 5
"""Below this number of folds, the stability of a ranking is not reported: it rests on too few trainings."""


def ranking(
    paired: Paired, units: Units, errors: MeanErrors, pairs: Sequence[PairResult] = (), by_case: bool = False
) -> Ranking:
    """Return ranks (1 is best) by three methods, the frequency of each rank, and the Nemenyi test.

    Parameters
    ----------
    paired, units, errors
        Values of one metric, their independent units, and the errors of means.
    pairs
        Results of all pairs, for `test_based`.
    by_case
        True if `rank` follows the ranks within patients instead of the means. This suits distances with misses, whose
        mean depends on the value that a miss is given.

    Notes
    -----
    `mean_then_rank` ranks the means. `rank_then_mean` averages the ranks within each patient (as Friedman's test does).
    `test_based` ranks by the number of losses that are clearly worse minus the number of those that are clearly better.
    `rank` is the ranking to report.

    `rank_frequency` (losses, ranks) is how often each loss has each rank if means are redrawn from t distributions with
    their standard errors, which include the noise of trainings. `tau` is the mean of Kendall's tau-b between such
    rankings and the observed one; None for fewer than five folds. Losses whose mean ranks differ by less than
    `critical_difference` form the `groups` of a critical-difference diagram [Demšar 2006]. Friedman's test needs at
    least three losses.
    """
    sign = -1.0 if paired.higher_is_better else 1.0
    count = len(paired.losses)
    by_mean = stats.rankdata(sign * paired.means)
    sums = np.stack([np.bincount(units.patients, row) for row in sign * paired.values])
    of_patients = sums / np.bincount(units.patients)
    mean_ranks = stats.rankdata(of_patients, axis=0).mean(axis=1)
    ranks = stats.rankdata(sign * redrawn_means(paired, errors), axis=1)
    frequency = np.stack([(np.round(ranks) == rank + 1).mean(axis=0) for rank in range(count)], axis=1)
    wins = [
        sum((pair.better == name) - (pair.worse == name) for pair in pairs if name in pair.names)
        for name in paired.losses
    ]
    patients = of_patients.shape[1]
    stable = count > 1 and units.fold_count >= FEWEST_FOLDS
    friedman_p = critical = None
    if count > 1 and patients > 2 and np.ptp(of_patients, axis=0).any():
        if count > 2:
            friedman_p = float(stats.friedmanchisquare(*of_patients).pvalue)
        quantile = float(stats.studentized_range.ppf(0.95, count, np.inf)) / np.sqrt(2)
        critical = float(quantile * np.sqrt(count * (count + 1) / (6 * patients)))
    return Ranking(
        losses=paired.losses,
        patients=patients,
        rank=tuple((stats.rankdata(mean_ranks) if by_case else by_mean).tolist()),
        ranked_by="case" if by_case else "mean",
        mean_then_rank=tuple(by_mean.tolist()),
        rank_then_mean=tuple(mean_ranks.tolist()),
        test_based=tuple(stats.rankdata([-won for won in wins]).tolist()),
        rank_frequency=tuple(tuple(row) for row in frequency.tolist()),
        tau=kendall_tau(by_mean, ranks) if stable else None,
        friedman_p=friedman_p,
        critical_difference=critical,
        groups=() if critical is None else _groups(paired.losses, mean_ranks, critical),
    )


def redrawn_means(paired: Paired, errors: MeanErrors, draws: int = DRAWS) -> Floats:
    """Return means of the losses as repeated studies might observe them (draws, losses), in the metric's unit.

    All losses of a draw share one factor for the unknown size of the noise: a multivariate t distribution.
    """
    random = np.random.default_rng(0)  # a fixed seed, so that two calls return the same ranks
    noise = random.standard_normal((draws, len(paired.losses))) * np.sqrt(errors.of_loss)
    degrees = min(errors.of_loss_degrees, 1e6)
    scale = np.sqrt(degrees / random.chisquare(degrees, draws))
    means: Floats = paired.means + noise * scale[:, None]
    return means


def ranking_over_metrics(rankings: Mapping[str, Ranking]) -> MeanRanks:
    """Return ranks averaged over metrics, by each method of ranking, for losses that all metrics have."""
    names = [
        name for name in next(iter(rankings.values())).losses if all(name in item.losses for item in rankings.values())
    ]
    places = [[item.losses.index(name) for item in rankings.values()] for name in names]

    def averaged(ranks: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """Return the mean rank of each loss over metrics."""
        return tuple(float(np.mean([row[at] for row, at in zip(ranks, place, strict=True)])) for place in places)

    return MeanRanks(
        losses=tuple(names),
        metrics=tuple(rankings),
        mean_then_rank=averaged([item.mean_then_rank for item in rankings.values()]),
        rank_then_mean=averaged([item.rank_then_mean for item in rankings.values()]),
        test_based=averaged([item.test_based for item in rankings.values()]),
    )


def kendall_tau(reference: Floats, ranks: Floats) -> float | None:
    """Return the mean over rows of Kendall's tau-b between a ranking (n,) and rankings (rows, n).

    None if every row consists of ties only.

    Examples
    --------
    >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    0.0
    """
    first, second = np.triu_indices(reference.size, 1)
    ours = np.sign(reference[first] - reference[second])
    theirs = np.sign(ranks[:, first] - ranks[:, second])
    scale = np.sqrt((ours**2).sum() * (theirs**2).sum(axis=1))
    known = scale > 0
    return float(np.mean((theirs @ ours)[known] / scale[known])) if known.any() else None


def pareto(paired: Mapping[str, Paired], losses: Collection[str], by_case: Collection[str] = ()) -> list[str]:
    """Return the Pareto front of Dice and 95 % Hausdorff distance.

    A loss is on the front unless another one is at least as good in both metrics and better in one.

    Parameters
    ----------
    paired
        Values by metric; of the two metrics, those that it lacks are ignored.
    losses
        Losses to consider.
    by_case
        Metrics compared by the mean rank within cases instead of the mean.
    """
    axes = [paired[name] for name in FRONT if name in paired]
    names = [name for name in axes[0].losses if all(name in item.losses for item in axes)] if axes else []
    names = [name for name in names if name in losses]
    score = {name: [_goodness(item, name, item.metric in by_case) for item in axes] for name in names}
    return [
        name
        for name in names
        if not any(
            all(x >= y for x, y in zip(score[other], score[name], strict=True)) and score[other] != score[name]
            for other in names
        )
    ]


def _goodness(paired: Paired, loss: str, by_case: bool) -> float:
    """Return the mean or the mean rank with its sign such that larger is better."""
    sign, index = (1.0 if paired.higher_is_better else -1.0), paired.losses.index(loss)
    if by_case:
        return float(stats.rankdata(sign * paired.values, axis=0)[index].mean())
    return float(sign * paired.means[index])


def _groups(losses: Sequence[str], mean_ranks: Floats, critical: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest sets of losses whose mean ranks lie within the critical difference."""
    order = np.argsort(mean_ranks, kind="stable")
    groups: list[tuple[str, ...]] = []
    reached = -1
    for start in range(len(order)):
        end = max(i for i in range(start, len(order)) if mean_ranks[order[i]] - mean_ranks[order[start]] < critical)
        if end > reached and end > start:
            groups.append(tuple(losses[i] for i in order[start : end + 1]))
        reached = max(reached, end)
    return tuple(groups)
