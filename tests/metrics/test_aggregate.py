import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import RecordError
from pipeline.metrics.aggregate import COUNTS, summarize
from pipeline.metrics.case_evaluation import METRICS
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.metrics import REGISTRY, metric_of
from pipeline.records.table import scores_frame

CLASSES = {1: "liver", 2: "tumour"}
SHAPE = (5, 4, 3)


def summary_of(references, predictions, metrics=tuple(REGISTRY)):
    scores = [
        score
        for index, (reference, prediction) in enumerate(zip(references, predictions, strict=True))
        for score in evaluate_case(
            f"case{index}", reference, prediction, (1.0, 1.0, 2.5), PanelSettings(CLASSES, metrics=metrics)
        )
    ]
    return summarize(scores_frame("dice_loss", 0, 0, scores)).set_index(["class", "metric"])


labels = st.lists(arrays(np.uint8, SHAPE, elements=st.sampled_from((0, 0, 1, 2))), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(references=labels, predictions=labels, case=st.integers(0, 2), value=st.sampled_from((1, 2)))
def test_removing_a_predicted_structure_never_improves_any_aggregate(references, predictions, case, value):
    assume((references[case] == value).any())
    before = summary_of(references, predictions)
    removed = [prediction.copy() for prediction in predictions]
    removed[case][removed[case] == value] = 0
    after = summary_of(references, removed)
    for (class_name, metric), row in before.iterrows():
        if not metric_of(metric).rankable:
            continue
        then = after.loc[(class_name, metric)]
        for statistic in ("mean", "median"):
            if np.isnan(row[statistic]):
                assert np.isnan(then[statistic])
            elif metric_of(metric).higher_is_better:
                assert then[statistic] <= row[statistic] + 1e-12, metric
            else:
                assert then[statistic] >= row[statistic] - 1e-12, metric
        assert then["defined"] == row["defined"]
        assert then["missed"] >= row["missed"]


@settings(max_examples=40, deadline=None)
@given(references=labels, predictions=labels)
def test_every_metric_is_over_the_same_cases(references, predictions):
    summary = summary_of(references, predictions)
    for class_name in CLASSES.values():
        counts = summary.loc[class_name][list(COUNTS)]
        assert len(counts) == len(METRICS)
        assert (counts == counts.iloc[0]).all(axis=None)
        assert (counts["defined"] + counts["correct_absence"] == 3).all()


@settings(max_examples=40, deadline=None)
@given(reference=arrays(bool, SHAPE), prediction=arrays(bool, SHAPE))
def test_a_miss_costs_the_whole_volume_so_that_it_improves_only_on_twice_of_it(reference, prediction):
    assume(reference.any() and prediction.sum() <= 2 * reference.sum())
    some, none = (
        summary_of([reference.astype(np.uint8)], [mask.astype(np.uint8)], ("volume_error_ml",))["mean"].iloc[0]
        for mask in (prediction, 0 * prediction)
    )
    assert none == pytest.approx(reference.sum() * 2.5 / 1000)
    assert none >= some - 1e-12


def table(*rows):
    return pd.DataFrame(rows, columns=["loss", "class", "metric", "value", "state"])


def test_means_and_counts_by_hand():
    found = summarize(
        table(
            ("ce", "liver", "dice", 0.8, "ok"),
            ("ce", "liver", "dice", 0.6, "ok"),
            ("ce", "liver", "dice", 0.0, "missed"),
            ("ce", "liver", "dice", 0.0, "false_positive"),
            ("ce", "liver", "dice", None, "correct_absence"),
            ("dice", "liver", "dice", 0.9, "ok"),
        )
    )
    assert found["loss"].tolist() == ["ce", "dice"]
    first = found.iloc[0]
    assert first["mean"] == pytest.approx(0.35)
    assert first["median"] == pytest.approx(0.3)
    assert first["std"] == pytest.approx(np.std([0.8, 0.6, 0, 0], ddof=1))
    assert first[list(COUNTS)].tolist() == [4, 1, 1, 1, 0, 0]
    assert np.isnan(found.iloc[1]["std"])


def test_a_collapsed_run_is_counted_and_averaged_by_the_value_of_a_failure():
    found = summarize(
        table(
            ("ce", "liver", "dice", 0.8, "ok"),
            ("ce", "liver", "dice", None, "collapsed"),
            ("ce", "liver", "dice", 0.0, "collapsed"),
        )
    ).iloc[0]
    assert found["mean"] == pytest.approx(0.4)
    assert (found["defined"], found["collapsed"]) == (1, 2)


def test_infinite_distances_of_other_tools_are_counted_and_do_not_swallow_the_mean():
    found = summarize(
        table(("ce", "", "hausdorff_mm", 3.0, "ok"), ("ce", "", "hausdorff_mm", float("inf"), "ok"))
    ).iloc[0]
    assert (found["mean"], found["defined"], found["undefined"]) == (3.0, 1, 1)


def test_a_table_without_class_and_state_is_enough():
    found = summarize(pd.DataFrame({"loss": ["a", "a"], "metric": ["dice"] * 2, "value": [0.5, None]}))
    assert found.loc[0, ["class", "mean", "defined", "undefined"]].tolist() == ["", 0.5, 1, 1]


def test_a_table_without_values_is_refused():
    with pytest.raises(RecordError, match="lacks the column"):
        summarize(pd.DataFrame({"loss": ["a"], "metric": ["dice"]}))
