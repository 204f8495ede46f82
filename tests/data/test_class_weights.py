import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.class_weights import (
    DEFAULT_POLICY,
    EFFECTIVE_NUMBER_BETA,
    EXTREME_RATIO,
    POLICIES,
    class_weights,
    imbalance_ratio,
)

COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any)
POLICY = st.sampled_from(POLICIES)
CAP = st.floats(1, 1000)


@given(COUNTS, POLICY, CAP)
def test_weights_are_finite_and_positive_with_mean_one(counts, policy, cap):
    weights = class_weights(counts, policy, cap)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1)


@given(COUNTS, POLICY, CAP)
def test_the_cap_holds(counts, policy, cap):
    weights = class_weights(counts, policy, cap)
    assert weights.max() / weights.min() <= cap * (1 + 1e-9)


@given(COUNTS, POLICY, CAP)
def test_a_rarer_class_never_weighs_less(counts, policy, cap):
    weights = class_weights(counts, policy, cap)
    order = np.argsort(counts, kind="stable")[::-1]
    assert (np.diff(weights[order]) >= -1e-9 * weights.max()).all()


@given(COUNTS.flatmap(lambda counts: st.tuples(st.just(counts), st.permutations(range(len(counts))))), POLICY)
def test_the_order_of_classes_does_not_matter(counts_and_order, policy):
    counts, order = counts_and_order
    shuffled = class_weights([counts[i] for i in order], policy)
    assert shuffled == pytest.approx(class_weights(counts, policy)[list(order)])


@pytest.mark.parametrize(
    ("policy", "raw"),
    [
        ("uniform", (1, 1, 1)),
        ("inverse", (1 / 0.8, 1 / 0.15, 1 / 0.05)),
        ("median_frequency", (0.15 / 0.8, 1, 3)),
        ("fourth_root", (0.8**-0.25, 0.15**-0.25, 0.05**-0.25)),
        ("square_root", (0.8**-0.5, 0.15**-0.5, 0.05**-0.5)),
        ("log", (1 / math.log(1.82), 1 / math.log(1.17), 1 / math.log(1.07))),
    ],
)
def test_policies_match_their_formulas(policy, raw):
    expected = np.asarray(raw) * 3 / sum(raw)
    assert class_weights((800, 150, 50), policy) == pytest.approx(expected)


def test_effective_numbers_lie_between_uniform_and_inverse():
    counts = (20_000_000, 1_000_000)
    found = class_weights(counts, "effective_number")
    beta = EFFECTIVE_NUMBER_BETA
    expected = [(1 - beta) / (1 - beta**count) for count in counts]
    assert found == pytest.approx(np.asarray(expected) / np.mean(expected), rel=1e-6)
    assert 1 < found[1] / found[0] < 20


def test_a_class_without_voxels_weighs_as_the_rarest_that_has_some():
    for policy in POLICIES:
        absent, rare = class_weights((1000, 0, 10), policy)[1:]
        assert absent == rare


def test_the_default_keeps_small_lesions_from_the_collapse_of_raw_inverse_weights():
    lesions = (14_432_537, 9_527)
    assert imbalance_ratio(lesions) > EXTREME_RATIO
    weights = class_weights(lesions, DEFAULT_POLICY)
    assert weights[1] / weights[0] == pytest.approx((14_432_537 / 9_527) ** 0.25)
    uncapped = class_weights(lesions, "inverse", cap=1e9)
    assert uncapped[1] / uncapped[0] > 1500


def test_absent_classes_do_not_count_as_imbalance():
    assert imbalance_ratio((100, 0, 50)) == 2
    assert imbalance_ratio((0, 0)) == 1


@pytest.mark.parametrize(
    ("counts", "policy", "cap"), [((1, 2), "cube", 50), ((1, 2), "log", 0.5), ((), "log", 50), ((0, 0), "log", 50)]
)
def test_nonsense_is_refused(counts, policy, cap):
    with pytest.raises(ValueError, match=r"policy|cap"):
        class_weights(counts, policy, cap)
