"""Records of a verdict: results of pairs seen from either side, and what survives a file."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.pair_result import PairResult, pair_of
from pipeline.records.verdict import LossResult, MetricSummary, Verdict

numbers = st.floats(-1e6, 1e6)
shares = st.integers(0, 64).map(lambda count: count / 64)
"""Shares of cases; 1 - (1 - share) is exact for these."""

pairs = st.builds(
    PairResult,
    a=st.just("ce"),
    b=st.just("dice"),
    metric=st.just("dice"),
    cases=st.integers(1, 1000),
    difference=numbers,
    ci_low=numbers | st.just(-math.inf),
    ci_high=numbers | st.just(math.inf),
    p_value=shares,
    p_holm=shares,
    equivalent=st.booleans(),
    better=st.sampled_from([None, "ce", "dice"]),
    margin=numbers,
    median_difference=numbers,
    cohen_dz=st.none() | numbers,
    rank_biserial=st.none() | numbers,
    superiority=st.none() | shares,
)


def result(**changes):
    values = {"difference": 0.1, "ci_low": -0.1, "ci_high": 0.3, "p_value": 0.2, "p_holm": 0.4, "margin": 0.005}
    values |= {"median_difference": 0.2, "cohen_dz": 0.5, "rank_biserial": 0.25, "superiority": 0.75}
    return PairResult(
        **({"a": "ce", "b": "dice", "metric": "dice", "cases": 9, "equivalent": False} | values | changes)
    )


@given(pairs)
def test_a_pair_that_is_flipped_twice_is_the_same_pair(pair):
    assert pair.flipped().flipped() == pair


@given(pairs)
def test_a_flipped_pair_names_the_same_better_loss_and_has_the_opposite_difference(pair):
    flipped = pair.flipped()
    assert (flipped.a, flipped.b, flipped.better, flipped.worse) == (pair.b, pair.a, pair.better, pair.worse)
    assert (flipped.difference, flipped.ci_low, flipped.ci_high) == (-pair.difference, -pair.ci_high, -pair.ci_low)
    assert (flipped.p_value, flipped.equivalent, flipped.margin) == (pair.p_value, pair.equivalent, pair.margin)


def test_effect_sizes_turn_with_their_pair():
    flipped = result().flipped()
    assert (flipped.median_difference, flipped.cohen_dz, flipped.rank_biserial) == (-0.2, -0.5, -0.25)
    assert flipped.superiority == 0.25
    assert result(cohen_dz=None, superiority=None).flipped().superiority is None


def test_a_pair_seen_from_a_loss_has_that_loss_first():
    pair = result()
    assert pair.seen_from("ce") is pair
    assert pair.seen_from("dice") == pair.flipped()
    assert pair_of([pair], "dice", "ce") == pair.flipped()
    assert pair_of([pair], "dice", "focal") is None


def verdict(**changes):
    summary = MetricSummary(mean=0.8, median=0.81, cases=9)
    values = {"verdict": "inconclusive", "recommended": "ce", "primary": "dice", "candidates": ("ce", "dice")}
    values |= {"losses": (LossResult(name="ce", metrics={"dice": summary}),), "pairs": (result(),)}
    return Verdict(**(values | changes))


def test_a_verdict_that_is_read_from_its_own_json_is_equal():
    written = verdict(scope=None, smallest_detectable={"dice": None}, reason="simplest", words=("Use ce.",))
    assert Verdict.model_validate(written.to_json()) == written
    assert Verdict.model_validate_json(json.dumps(written.to_json(), allow_nan=False)) == written


def test_numbers_that_json_lacks_are_null_in_the_file_and_nan_when_read():
    unbounded = verdict(pairs=(result(ci_low=-math.inf, ci_high=math.inf, median_difference=math.nan),))
    content = json.loads(json.dumps(unbounded.to_json(), allow_nan=False))
    assert [content["pairs"][0][name] for name in ("ci_low", "ci_high", "median_difference")] == [None, None, None]
    (read,) = Verdict.model_validate(content).pairs
    assert math.isnan(read.ci_low)
    assert math.isnan(read.ci_high)
    assert math.isnan(read.median_difference)
    assert read.difference == 0.1
    assert Verdict.model_validate(content).to_json() == content


@pytest.mark.parametrize("place", ["verdict", "pair", "loss", "metric"])
def test_fields_of_a_later_version_survive_reading_and_writing(place):
    content = verdict().to_json()
    summary = content["losses"][0]["metrics"]["dice"]
    {"verdict": content, "pair": content["pairs"][0], "loss": content["losses"][0], "metric": summary}[place][
        "from_the_future"
    ] = {"value": 3}
    assert Verdict.model_validate(content).to_json() == content
