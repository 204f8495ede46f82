import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.average_precision import average_precision


def test_precision_is_averaged_over_the_positives_in_the_order_of_their_scores():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, np.array([False, False, False, True])) == 0.25


def test_a_perfect_ranking_reaches_one_whatever_the_scale_of_the_scores():
    positive = np.arange(1000) < 3
    assert average_precision(np.where(positive, 2e-6, 1e-6), positive) == 1.0  # hard Dice at 0.5 would be 0


def test_a_constant_score_reaches_the_prevalence():
    positive = np.arange(1000) < 20
    assert average_precision(np.full(1000, 0.3), positive) == pytest.approx(0.02)


def test_without_positives_there_is_no_precision():
    assert average_precision(np.ones(5), np.zeros(5, dtype=bool)) is None


def test_only_positives_are_a_perfect_ranking():
    assert average_precision(np.ones(5), np.ones(5, dtype=bool)) == 1.0


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_it_is_the_average_precision_of_scikit_learn(voxels):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, positive = np.array([score for score, _ in voxels]) / 6, np.array([truth for _, truth in voxels])
    if positive.any():
        assert average_precision(scores, positive) == pytest.approx(metrics.average_precision_score(positive, scores))


def test_sampled_negatives_change_it_little():
    random = np.random.default_rng(0)
    positive = random.random(50_000) < 0.002
    scores = random.standard_normal(50_000) + 2 * positive
    assert average_precision(scores, positive, 5_000) == pytest.approx(average_precision(scores, positive), rel=0.1)
