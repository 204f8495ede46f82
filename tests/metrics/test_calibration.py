import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.metrics import calibration
from pipeline.metrics.calibration import (
    brier_score,
    calibration_region,
    expected_calibration_error,
    foreground_calibration_error,
    negative_log_likelihood,
)
from pipeline.metrics.panel import PanelSettings, evaluate_case


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


def test_the_region_is_the_reference_and_ten_millimeters_around_it():
    reference = np.zeros((40, 40, 40), bool)
    reference[20:22, 2, 30] = True
    found = calibration_region(reference, (1.0, 2.0, 3.0))
    whole = np.arange(40)
    assert [whole[part][[0, -1]].tolist() for part in found] == [[10, 31], [0, 7], [26, 34]]
    assert np.zeros((4, 5, 6))[calibration_region(np.zeros((4, 5, 6), bool), (1, 1, 1))].shape == (4, 5, 6)


def scores(reference, prediction, probability):
    found = evaluate_case(
        "c",
        reference,
        prediction,
        (1, 1, 1),
        PanelSettings({1: "it"}),
        probabilities=np.stack([1 - probability, probability]),
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


def test_far_false_positives_at_099_cost_calibration_and_likelihood():
    reference = np.zeros((60, 60, 60), np.uint8)
    reference[5:10, 5:10, 5:10] = 1
    good = np.where(reference == 1, 0.95, 0.001)
    bad = good.copy()
    bad[45:55, 45:55, 45:55] = 0.99
    before, after = (scores(reference, reference, probability) for probability in (good, bad))
    assert after["ace_foreground"] > before["ace_foreground"] + 0.5
    assert after["nll"] > before["nll"] + 0.1
    assert (after["ece"], after["brier"]) == (before["ece"], before["brier"])


def test_the_foreground_error_is_one_for_misses_and_false_positives_and_zero_for_the_truth():
    truth = np.zeros((8, 8, 8), bool)
    truth[:2] = True
    nothing = np.zeros((8, 8, 8))
    assert foreground_calibration_error(truth.astype(float), truth) == 0
    assert foreground_calibration_error(nothing, truth) == 1
    assert foreground_calibration_error(truth * 0.8, nothing.astype(bool)) == 1
    assert foreground_calibration_error(nothing, nothing.astype(bool)) == 0


def test_the_foreground_error_by_hand():
    """Four voxels at 0.8, two of them right: mass 2 + 1.6, of which 4 * 0.8 - 2 are too much; background has none."""
    probability = np.zeros((10, 10, 10))
    probability[0, 0, :4] = 0.8
    truth = np.zeros((10, 10, 10), bool)
    truth[0, 0, :2] = True
    assert foreground_calibration_error(probability, truth) == pytest.approx(1.2 / 3.6)


def test_probabilities_that_are_frequencies_have_nearly_no_foreground_error_and_confident_ones_do():
    random = np.random.default_rng(0)
    probability = np.where(random.random((60, 60, 60)) < 0.1, random.random((60, 60, 60)), 0.0)
    truth = random.random((60, 60, 60)) < probability
    assert foreground_calibration_error(probability, truth) < 0.02
    sharp = probability**0.2 * (probability > 0)
    assert foreground_calibration_error(sharp, truth) > 0.2


def test_background_without_probability_does_not_dilute_the_foreground_error():
    random = np.random.default_rng(0)
    probability, truth = random.random((10, 10, 10)), random.random((10, 10, 10)) < 0.2
    padded = foreground_calibration_error(np.pad(probability, 20), np.pad(truth, 20))
    assert padded == pytest.approx(foreground_calibration_error(probability, truth))


@settings(max_examples=50, deadline=None)
@given(probability=arrays(float, (5, 4, 3), elements=st.floats(0, 1)), truth=arrays(bool, (5, 4, 3)))
def test_the_foreground_error_is_that_of_a_loop_over_cells(probability, truth):
    gaps, masses = np.zeros((2, 1000))
    for p, t in zip(np.where(probability < 0.01, 0, probability).ravel(), truth.ravel(), strict=True):
        cell = min(int(p * 1000), 999)
        gaps[cell] += p - t
        masses[cell] += max(p, float(t))
    bins, before = np.zeros(15), 0.0
    for gap, mass in zip(gaps, masses, strict=True):
        if mass:
            bins[min(int(15 * (before + mass / 2) / masses.sum()), 14)] += gap
        before += mass
    expected = np.abs(bins).sum() / masses.sum() if masses.sum() else 0.0
    assert foreground_calibration_error(probability, truth) == pytest.approx(expected, abs=1e-9)


def test_a_background_that_is_never_quite_zero_does_not_hide_the_foreground():
    truth = np.zeros((60, 60, 60), bool)
    truth[5:10, 5:10, 5:10] = True
    sure = np.where(truth, 0.95, 0.0)
    assert foreground_calibration_error(sure + 0.009 * ~truth, truth) == pytest.approx(0.05)
    assert foreground_calibration_error(sure, truth) == pytest.approx(0.05)


def test_the_likelihood_by_hand_and_finite_where_a_network_is_sure_and_wrong():
    probability, truth = np.array([[[0.5, 0.9, 0.0]]]), np.array([[[True, False, True]]])
    expected = -(np.log(0.5) + np.log(0.1) + np.log(1e-6)) / 10
    assert negative_log_likelihood(probability, truth, 10) == pytest.approx(expected)
    assert negative_log_likelihood(truth.astype(float), truth, 3) == 0


def test_the_likelihood_is_divided_by_the_surroundings_of_the_reference_whatever_the_image():
    reference = np.zeros((30, 30, 30), np.uint8)
    reference[14:16, 14:16, 14:16] = 1
    probability = np.where(reference == 1, 0.5, 0.0)
    small, large = (
        scores(np.pad(reference, by), np.pad(reference, by), np.pad(probability, by))["nll"] for by in (0, 20)
    )
    assert small == large == pytest.approx(8 * np.log(2) / 22**3)


def test_a_whole_image_is_measured_in_blocks_that_do_not_change_the_result(monkeypatch):
    random = np.random.default_rng(0)
    probability, truth = random.random((20, 9, 9)), random.random((20, 9, 9)) < 0.3
    whole = foreground_calibration_error(probability, truth), negative_log_likelihood(probability, truth, 9)
    monkeypatch.setattr(calibration, "_VOXELS_AT_ONCE", 200)
    parts = foreground_calibration_error(probability, truth), negative_log_likelihood(probability, truth, 9)
    assert parts == pytest.approx(whole)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.2, 1.4])
def test_values_that_are_not_probabilities_are_refused(wrong):
    reference = np.ones((3, 3, 3), np.uint8)
    probability = np.full((3, 3, 3), 0.5)
    probability[1, 1, 1] = wrong
    with pytest.raises(ValueError, match="probabilities must lie"):
        scores(reference, reference, probability)


def test_probabilities_of_another_number_of_classes_are_refused():
    reference = np.ones((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="probabilities have shape"):
        evaluate_case(
            "c", reference, reference, (1, 1, 1), PanelSettings({1: "it"}), probabilities=np.zeros((3, 3, 3, 3))
        )


def test_classes_take_their_probabilities_in_the_order_of_their_values():
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[0], reference[1] = 3, 7
    probabilities = np.stack([reference == 0, reference == 3, reference == 7]).astype(float)
    found = evaluate_case(
        "c", reference, reference, (1, 1, 1), PanelSettings({7: "seven", 3: "three"}, metrics=("brier",)), probabilities
    )
    assert [(score.class_name, score.value) for score in found] == [("three", 0.0), ("seven", 0.0)]
