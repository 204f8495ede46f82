import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import HausdorffDistanceMetric

from pipeline.metrics.case_evaluation import METRICS
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.metrics.surface import surface_distances
from pipeline.records.metrics import REGISTRY, names_of
from pipeline.records.tolerance import Tolerance

CLASSES = {1: "organ"}
OVERLAP = {name for name in METRICS if REGISTRY[name].higher_is_better}
DISTANCES = {"hausdorff_mm", "hausdorff95_mm", "assd_mm"}


def panel(reference, prediction, spacing=(1.0, 1.0, 1.0), metrics=tuple(REGISTRY), probabilities=None):
    settings = PanelSettings(CLASSES, metrics=metrics)
    scores = evaluate_case("c", np.asarray(reference), np.asarray(prediction), spacing, settings, probabilities)
    return {score.metric: score.value for score in scores}, {score.state for score in scores}


def box(shape, *slices):
    mask = np.zeros(shape, np.int16)
    mask[slices] = 1
    return mask


def test_two_shifted_cubes_have_the_numbers_worked_out_by_hand():
    reference = box((10, 10, 10), slice(2, 6), slice(2, 6), slice(2, 6))
    prediction = box((10, 10, 10), slice(3, 7), slice(2, 6), slice(2, 6))
    values, states = panel(reference, prediction, (2.0, 1.0, 1.0))
    assert states == {"ok"}
    assert values["dice"] == pytest.approx(2 * 48 / 128)
    assert values["iou"] == pytest.approx(48 / 80)
    assert values["sensitivity"] == values["precision"] == pytest.approx(48 / 64)
    assert values["volume_error"] == values["volume_error_ml"] == 0
    assert values["hausdorff_mm"] == 2.0
    assert values["lesion_f1"] == 1.0


def test_volumes_are_in_ml():
    values, _ = panel(
        box((20, 20, 20), slice(0, 10), slice(0, 10), slice(0, 10)), box((20, 20, 20), 0, 0, 0), (2, 2, 2.5)
    )
    assert values["volume_error_ml"] == pytest.approx(9.99)


def test_a_correct_absence_is_counted_and_has_no_value():
    empty = np.zeros((5, 5, 5), int)
    values, states = panel(empty, empty)
    assert states == {"correct_absence"}
    assert all(value is None for value in values.values())
    assert set(values) == set(METRICS)


@pytest.mark.parametrize("kind", ["missed", "false_positive"])
def test_one_empty_mask_costs_overlap_nothing_and_distance_the_diagonal(kind):
    masks = [box((3, 4, 12), 1, 1, 1), np.zeros((3, 4, 12), int)]
    values, states = panel(*(masks if kind == "missed" else masks[::-1]))
    assert states == {kind}
    assert all(values[name] == 0 for name in OVERLAP)
    assert all(values[name] == pytest.approx(13.0) for name in DISTANCES)
    assert values["volume_error"] == 2


def test_only_the_selected_metrics_are_computed():
    values, _ = panel(box((4, 4, 4), 1), box((4, 4, 4), 2), metrics=("dice", "hausdorff_mm"))
    assert set(values) == {"dice", "hausdorff_mm"}


def test_every_metric_of_the_registry_is_computed_and_named_as_there():
    reference = box((8, 8, 8), slice(2, 6), slice(2, 6), slice(2, 6))
    probabilities = np.stack([1 - reference, reference]).astype(np.float32)
    values, _ = panel(reference, reference, probabilities=probabilities)
    assert tuple(values) == names_of()
    for name, value in values.items():
        assert value == REGISTRY[name].best, name


def test_each_class_has_its_own_tolerance_and_it_is_stored_with_surface_dice_alone():
    reference = np.zeros((12, 12, 12), np.uint8)
    reference[1:4, 2:6, 2:6], reference[7:10, 2:6, 2:6] = 1, 2
    prediction = np.roll(reference, 2, 2)
    tolerance = Tolerance(1.0, {"lesion": 2.0})
    scores = evaluate_case("c", reference, prediction, (1, 1, 1), PanelSettings({1: "organ", 2: "lesion"}, tolerance))
    by_class = {score.class_name: score for score in scores if score.metric == "nsd"}
    assert by_class["organ"].tolerance_mm == 1.0
    assert by_class["organ"].value < 1
    assert by_class["lesion"].tolerance_mm == 2.0
    assert by_class["lesion"].value == 1.0
    assert {score.tolerance_mm for score in scores if score.metric != "nsd"} == {None}


def test_lesions_are_matched_missed_or_false_positives():
    reference, prediction = np.zeros((2, 20, 20, 20), int)
    reference[2:4, 2:4, 2:4] = reference[10:12, 10, 10] = 1
    prediction[3:5, 2:4, 2:4] = prediction[17, 17, 17] = 1
    values, _ = panel(reference, prediction)
    assert values["lesion_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_perfect_probabilities_are_calibrated_and_a_coin_is_not():
    reference = box((8, 8, 8), slice(2, 6), slice(2, 6), slice(2, 6))
    sure = np.stack([1 - reference, reference]).astype(np.float32)
    assert panel(reference, reference, probabilities=sure)[0]["brier"] == 0
    assert panel(reference, reference, probabilities=sure)[0]["ece"] == 0
    coin = np.full_like(sure, 0.5)
    values, _ = panel(reference, reference, probabilities=coin)
    assert values["brier"] == pytest.approx(0.25)
    assert values["ece"] == pytest.approx(abs(0.5 - 64 / 512))


masks = arrays(bool, st.tuples(*[st.integers(2, 7)] * 3), elements=st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    reference=masks,
    spacing=st.tuples(*[st.sampled_from((0.5, 1.0, 3.0))] * 3),
)
def test_hausdorff_distances_agree_with_monai(data, reference, spacing):
    prediction = data.draw(arrays(bool, reference.shape))
    if not reference.any() or not prediction.any():
        return
    found = surface_distances(reference, prediction, spacing)
    y, y_pred = (torch.from_numpy(m)[None, None].float() for m in (reference, prediction))
    both = {"y_pred": y_pred, "y": y, "spacing": spacing}
    expected = {
        "hausdorff_mm": HausdorffDistanceMetric(include_background=True)(**both),
        "hausdorff95_mm": HausdorffDistanceMetric(include_background=True, percentile=95)(**both),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(float(value), abs=1e-4), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_hausdorff_agrees_with_deepmind_on_solid_masks(seed):
    from surface_distance import compute_robust_hausdorff, compute_surface_distances

    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), -1)
    reference, prediction = (np.linalg.norm(grid - random.uniform(8, 12, 3), axis=-1) < 5 for _ in range(2))
    theirs = compute_robust_hausdorff(compute_surface_distances(reference, prediction, (1, 1, 1)), 100)
    ours = surface_distances(reference, prediction, (1, 1, 1)).hausdorff_mm
    assert abs(ours - theirs) <= math.sqrt(3) / 2


@settings(max_examples=40, deadline=None)
@given(reference=masks, data=st.data())
def test_a_missed_structure_never_improves_overlap_or_distance(reference, data):
    if not reference.any():
        return
    prediction = data.draw(arrays(bool, reference.shape))
    some, _ = panel(reference.astype(int), prediction.astype(int))
    none, _ = panel(reference.astype(int), np.zeros_like(reference, int))
    assert all(none[name] <= some[name] for name in OVERLAP)
    assert all(none[name] >= some[name] for name in DISTANCES)


def test_stock_hausdorff_drops_a_miss_and_ours_does_not():
    reference = torch.zeros(2, 1, 8, 8, 8)
    reference[:, 0, 2:5, 2:5, 2:5] = 1
    prediction = reference.clone()
    prediction[1] = 0
    stock = HausdorffDistanceMetric(include_background=True, percentile=95)
    stock(y_pred=prediction, y=reference)
    assert float(stock.aggregate()) == 0.0
    values, _ = panel(reference[1, 0].int().numpy(), prediction[1, 0].int().numpy())
    assert values["hausdorff95_mm"] == pytest.approx(8 * math.sqrt(3))


def test_trees_and_distance_maps_give_the_same(monkeypatch):
    random = np.random.default_rng(0)
    reference, prediction = random.random((2, 12, 12, 12)) > 0.9
    found = []
    for share in (0.0, 1.1):
        monkeypatch.setattr("pipeline.metrics.surface._POINTS_FOR_TREE", share)
        found.append(surface_distances(reference, prediction, (0.7, 1.0, 2.5)))
    np.testing.assert_allclose(found[0].to_reference, found[1].to_reference)
    np.testing.assert_allclose(found[0].to_prediction, found[1].to_prediction)


@pytest.mark.parametrize(
    ("reference", "prediction", "spacing"),
    [(np.ones((2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1)), (np.zeros((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)),
     (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1))],
)  # fmt: skip
def test_surfaces_that_make_no_sense_are_refused(reference, prediction, spacing):
    with pytest.raises(ValueError, match=r"differ|empty|positive"):
        surface_distances(reference.astype(bool), prediction.astype(bool), spacing)


@pytest.mark.parametrize(("classes", "metrics"), [({0: "background"}, ("dice",)), (CLASSES, ("dice", "no_such"))])
def test_settings_that_make_no_sense_cannot_be_built(classes, metrics):
    with pytest.raises(ValueError, match=r"foreground|no_such"):
        PanelSettings(classes, metrics=metrics)
