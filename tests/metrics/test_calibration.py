import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.metrics.calibration import brier_score, calibration_region, expected_calibration_error
from pipeline.metrics.panel import evaluate_case


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    truth = np.array([True, True, True, False, False, False])
    # four at 0.9 of which 3/4 are true: gap 0.15; two at 0.1 of which none is: gap 0.1
    assert expected_calibration_error(probability, truth) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert brier_score(probability, truth) == pytest.approx((3 * 0.01 + 0.81 + 2 * 0.01) / 6)


@settings(max_examples=50, deadline=None)
@given(
    probability=arrays(float, (5, 4, 3), elements=st.floats(0, 1)),
    truth=arrays(bool, (5, 4, 3)),
)
def test_calibration_error_is_that_of_a_loop_over_bins(probability, truth):
    expected = 0.0
    for index in range(15):
        inside = np.floor(probability * 15).clip(max=14) == index
        if inside.any():
            expected += inside.mean() * abs(probability[inside].mean() - truth[inside].mean())
    assert expected_calibration_error(probability, truth) == pytest.approx(expected, abs=1e-12)


def test_the_region_is_the_reference_and_ten_millimetres_around_it():
    reference = np.zeros((40, 40, 40), bool)
    reference[20:22, 2, 30] = True
    found = calibration_region(reference, (1.0, 2.0, 3.0))
    whole = np.arange(40)
    assert [whole[part][[0, -1]].tolist() for part in found] == [[10, 31], [0, 7], [26, 34]]
    assert np.zeros((4, 5, 6))[calibration_region(np.zeros((4, 5, 6), bool), (1, 1, 1))].shape == (4, 5, 6)


def scores(reference, prediction, probability):
    found = evaluate_case(
        "c", reference, prediction, (1, 1, 1), {1: "it"}, probabilities=np.stack([1 - probability, probability])
    )
    return {score.metric: score.value for score in found}


def test_calibration_is_measured_on_the_same_voxels_whatever_was_predicted():
    reference, prediction = np.zeros((2, 40, 40, 40), np.uint8)
    reference[20:24, 20:24, 20:24] = 1
    probability = np.where(reference == 1, 0.4, 0.1)
    prediction[0, 0, 0] = 1
    far, none = (scores(reference, mask, probability) for mask in (prediction, 0 * prediction))
    assert far["ece"] == none["ece"]
    assert far["brier"] == none["brier"] == pytest.approx((64 * 0.36 + (24**3 - 64) * 0.01) / 24**3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.2, 1.4])
def test_what_is_no_probability_is_refused(wrong):
    reference = np.ones((3, 3, 3), np.uint8)
    probability = np.full((3, 3, 3), 0.5)
    probability[1, 1, 1] = wrong
    with pytest.raises(ValueError, match="probabilities must lie"):
        scores(reference, reference, probability)


def test_probabilities_of_another_number_of_classes_are_refused():
    reference = np.ones((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="probabilities have shape"):
        evaluate_case("c", reference, reference, (1, 1, 1), {1: "it"}, probabilities=np.zeros((3, 3, 3, 3)))


def test_classes_take_their_probabilities_in_the_order_of_their_values():
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[0], reference[1] = 3, 7
    probabilities = np.stack([reference == 0, reference == 3, reference == 7]).astype(float)
    found = evaluate_case(
        "c", reference, reference, (1, 1, 1), {7: "seven", 3: "three"}, probabilities=probabilities, metrics=("brier",)
    )
    assert [(score.class_name, score.value) for score in found] == [("three", 0.0), ("seven", 0.0)]
