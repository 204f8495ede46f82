"""Results of pairs for tests of figures."""

from pipeline.records.pair_result import PairResult


def pair_result(a, b, metric="dice", difference=0.0, ci_low=-0.1, ci_high=0.1, **fields):
    """Return a pair of 10 cases without a verdict, unless fields say otherwise."""
    fields = {"cases": 10, "p_holm": 0.5, "equivalent": False, **fields}
    return PairResult(a=a, b=b, metric=metric, difference=difference, ci_low=ci_low, ci_high=ci_high, **fields)
