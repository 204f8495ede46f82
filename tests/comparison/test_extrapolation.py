from math import inf, log2, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from pipeline.comparison.extrapolation import Reach, reach_of

QUIET = 1e-4


def reach(gaps, steps, margin=0.5, noise=QUIET, critical=2.0) -> Reach:
    covariance = noise**2 * np.eye(len(gaps))[None]
    return reach_of(np.array([gaps]), covariance, np.array(steps, float), margin, np.array([critical]))


def test_a_gap_that_halves_with_each_fourfold_budget_is_extrapolated_by_its_power_law():
    found = reach([4.0, 2.0, 1.0], [1, 4, 16])
    assert found.best[0] == pytest.approx(4, rel=0.01)
    assert found.low[0] <= found.best[0] <= found.high[0]
    assert found.high[0] - found.low[0] < 0.1


def test_a_gap_that_falls_by_the_same_amount_with_each_doubling_is_extrapolated_by_a_line():
    assert reach([3.0, 2.0, 1.0], [1, 2, 4]).best[0] == pytest.approx(sqrt(2), rel=0.01)


def test_a_gap_that_tends_to_a_limit_beyond_the_margin_never_reaches_it():
    found = reach([4.0, 3.0, 2.5], [1, 2, 4])  # changes of 1 and 0.5: the limit is 2
    assert (found.best[0], found.low[0], found.high[0]) == (inf, inf, inf)


def test_a_gap_that_tends_to_a_limit_beyond_the_margin_may_reach_it_if_noise_hides_the_limit():
    found = reach([4.0, 3.0, 2.5], [1, 2, 4], noise=0.4)
    assert 1 < found.low[0] < 10
    assert found.high[0] == inf


def test_a_gap_that_grows_never_reaches_the_margin():
    assert reach([1.0, 2.0, 2.5], [1, 2, 4]).low[0] == inf


def test_a_gap_that_is_within_the_margin_already_is_there_now():
    found = reach([1.0, 0.5, 0.25], [1, 2, 4])
    assert (found.low[0], found.best[0]) == (1.0, 1.0)
    assert found.high[0] == pytest.approx(1.0, abs=0.01)


def test_two_budgets_give_the_bound_of_the_t_test_of_a_line_over_log_b():
    """At 2 ** x times the largest budget, the line is at ``2 - x``; its error has the weights ``1 + x`` and ``-x``."""
    noise, critical = 0.1, 2.0
    at = brentq(lambda x: (1.5 - x) - critical * noise * sqrt((1 + x) ** 2 + x**2), 0, 2)
    found = reach([3.0, 2.0], [1, 2], noise=noise, critical=critical)
    assert log2(found.low[0]) == pytest.approx(at, abs=0.01)
    assert found.high[0] == inf


def test_more_noise_never_narrows_an_interval():
    quiet, noisy = (reach([4.0, 2.0, 1.0], [1, 4, 16], noise=noise) for noise in (0.01, 0.05))
    assert noisy.low[0] < quiet.low[0]
    assert noisy.high[0] > quiet.high[0]


gaps_of_pairs = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)


@given(gaps_of_pairs, st.floats(0.01, 1.0), st.floats(0.01, 100))
def test_the_unit_of_the_steps_does_not_matter(gaps, noise, factor):
    steps = np.array([1.0, 3.0, 9.0])
    one, other = reach(gaps, steps, noise=noise), reach(gaps, factor * steps, noise=noise)
    for name in ("low", "best", "high"):
        assert getattr(one, name)[0] == pytest.approx(getattr(other, name)[0], rel=1e-3)


@given(gaps_of_pairs, st.floats(0.01, 1.0))
def test_the_best_budget_lies_in_the_interval_which_begins_at_the_largest_budget(gaps, noise):
    found = reach(gaps, [1, 3, 9], noise=noise)
    assert 1 <= found.low[0] <= found.best[0] <= found.high[0]


@given(gaps_of_pairs, st.floats(0.01, 1.0), st.floats(0.1, 10))
def test_the_unit_of_the_metric_does_not_matter(gaps, noise, factor):
    one = reach(gaps, [1, 3, 9], noise=noise)
    other = reach([factor * gap for gap in gaps], [1, 3, 9], margin=0.5 * factor, noise=factor * noise)
    assert one.low[0] == pytest.approx(other.low[0], rel=1e-3)
