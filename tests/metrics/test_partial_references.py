"""Metrics against references of which some voxels or classes are unknown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data.annotation import Annotation
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.table import STATES, scores_frame

SHAPE = (5, 6, 4)
SETTINGS = PanelSettings({1: "organ", 2: "lesion"})
LABELS = arrays(np.uint8, SHAPE, elements=st.integers(0, 2))


def probabilities_of(prediction):
    hot = np.stack([prediction == value for value in range(3)]).astype(np.float32)
    return 0.7 * hot + 0.1


def score(reference, prediction, annotation):
    return evaluate_case(
        "c", reference, prediction, (1.0, 2.0, 1.5), SETTINGS, probabilities_of(prediction), annotation
    )


@given(LABELS, LABELS, LABELS, arrays(np.bool_, SHAPE))
def test_predictions_at_ignored_voxels_change_no_metric(reference, prediction, other, ignored):
    reference = np.where(ignored, 9, reference)
    if ignored.all():
        reference[0, 0, 0] = 0
    elsewhere = np.where(reference == 9, other, prediction)
    assert score(reference, prediction, Annotation(9)) == score(reference, elsewhere, Annotation(9))


@given(LABELS, LABELS, arrays(np.bool_, SHAPE))
def test_labels_of_a_class_that_was_not_annotated_change_no_metric(reference, prediction, drawn):
    annotation = Annotation(classes=(1,))
    other = np.where((reference != 1) & drawn, 2, np.where(reference == 2, 0, reference))
    found = score(reference, prediction, annotation)
    assert found == score(other, prediction, annotation)
    unknown = [one for one in found if one.class_name == "lesion"]
    assert {(one.value, str(one.state)) for one in unknown} == {(None, "not_annotated")}
    assert len(unknown) == len(found) / 2


@given(LABELS, LABELS)
def test_complete_annotation_gives_the_same_scores(reference, prediction):
    complete = score(reference, prediction, Annotation())
    assert complete == score(reference, prediction, Annotation(ignore=9))
    assert complete == score(reference, prediction, Annotation(classes=(1, 2)))


def test_a_prediction_outside_the_annotated_voxels_is_no_false_positive():
    reference = np.full(SHAPE, 9, np.uint8)
    reference[0] = 0
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[2] = 1
    assert {str(one.state) for one in score(reference, prediction, Annotation(9))} == {"correct_absence"}


def test_calibration_is_that_of_the_annotated_voxels():
    reference = np.zeros(SHAPE, np.uint8)
    reference[:2] = 1
    prediction = reference.copy()
    prediction[0, 0] = 0
    whole = {one.metric: one.value for one in score(reference, prediction, Annotation())}
    padded = [np.concatenate([volume, np.full((3, *SHAPE[1:]), fill, np.uint8)]) for volume, fill in
              ((reference, 9), (prediction, 1))]  # fmt: skip
    cropped = {one.metric: one.value for one in score(*padded, Annotation(9))}
    for metric in ("ece", "ace_foreground", "brier", "nll", "dice", "lesion_f1"):
        assert cropped[metric] == pytest.approx(whole[metric])


def test_a_summary_leaves_out_what_was_not_annotated():
    reference = np.zeros(SHAPE, np.uint8)
    reference[:2] = 1
    table = scores_frame("ce", 0, 0, score(reference, reference, Annotation(classes=(1,))))
    assert set(summarize(table)["class"]) == {"organ"}
    assert summarize(table)["undefined"].sum() == 0
    assert "not_annotated" in STATES
