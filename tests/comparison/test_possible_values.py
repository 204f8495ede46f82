import re

import numpy as np
import pandas as pd
import pytest
from simulated_studies import simulate

from pipeline.comparison import ComparisonSettings, compare
from pipeline.records.metrics import metric_of


def two_folds(gap=0.3, metric="dice", scale=1.0):
    """Two folds of one seed that disagree wildly: one degree of freedom."""
    random = np.random.default_rng(0)
    rows = [
        (loss, i % 2, f"c{i}", metric, scale * (0.5 + (gap if (loss == "b") == (i % 2 == 0) else 0) + noise))
        for loss in "ab"
        for i, noise in enumerate(0.02 * random.standard_normal(20))
    ]
    return pd.DataFrame(rows, columns=["loss", "fold", "case", "metric", "value"])


def points_in(sentences):
    return [float(value) for text in sentences for value in re.findall(r"[-+]?\d+\.\d+(?= points| to)", text)]


def test_no_sentence_has_a_difference_of_dice_beyond_100_points():
    verdict = compare(two_folds(), ComparisonSettings(resamples=200))
    assert verdict.pairs[0].ci_high > 1  # the JSON has the interval as it was computed
    assert all(abs(value) <= 100 for value in points_in([*verdict.words, *verdict.caveats]))
    assert any("too few trainings or cases to estimate the true difference" in sentence for sentence in verdict.words)


def test_what_no_possible_difference_would_reveal_is_null_and_worded():
    verdict = compare(two_folds(), ComparisonSettings(resamples=200))
    assert verdict.smallest_detectable["dice"] is None
    assert any(sentence.startswith("This study has too few trainings or cases") for sentence in verdict.words)


def test_a_study_that_tells_something_keeps_its_numbers():
    verdict = compare(simulate({"a": 0.0, "b": 0.02}), ComparisonSettings(resamples=200))
    assert 0 < verdict.smallest_detectable["dice"] < 0.1
    assert any(sentence.startswith("A study like this one finds") for sentence in verdict.words)


def test_a_distance_larger_than_any_seen_is_not_called_detectable():
    assert (
        compare(two_folds(metric="assd_mm", scale=10.0), ComparisonSettings(resamples=200)).smallest_detectable[
            "assd_mm"
        ]
        is None
    )


@pytest.mark.parametrize(
    ("metric", "interval", "shown"),
    [
        ("dice", (-2.3, 0.2), (-1.0, 0.2)),
        ("dice", (-0.3, 0.2), (-0.3, 0.2)),
        ("assd_mm", (-30.0, 20.0), (-30.0, 20.0)),
        ("volume_error", (-3.0, 1.5), (-2.0, 1.5)),
    ],
)
def test_intervals_are_shown_within_what_the_metric_allows(metric, interval, shown):
    assert metric_of(metric).possible_interval(*interval) == shown


def test_only_an_interval_that_holds_everything_is_uninformative():
    assert metric_of("dice").is_uninformative(-1.2, 1.1)
    assert not metric_of("dice").is_uninformative(-1.2, 0.9)
    assert not metric_of("assd_mm").is_uninformative(-1e3, 1e3)
