from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from scipy import ndimage

from pipeline.references import changes as reference_changes
from pipeline.references.changes import LARGEST_SHIFT_MM, Change, best_shift, mean_dice, suspected_change

SPACING_MM = (1.0, 1.5, 4.0)


def structure(classes=(1, 2), shape=(26, 28, 24), at=(12, 12, 10)):
    """An egg, cut into classes along its second axis."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    away = [(grid[axis] - at[axis]) / radius for axis, radius in enumerate((4, 7 + 0.1 * grid[0], 5))]
    part = np.clip((away[1] + 1) / 2 * len(classes), 0, len(classes) - 1).astype(int)
    return np.where(sum(part**2 for part in away) < 1, np.array(classes)[part], 0).astype(np.int16)


def predicted(labels, seed, noise=0.4):
    """Labels with borders moved by smooth noise of so many voxels."""
    away = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(labels.shape), 1.5)
    away *= noise / away.std()
    inside = labels > 0
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside) + away
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return np.where(signed > 0, labels[tuple(nearest)], 0).astype(labels.dtype)


def moved(labels, shift):
    return Change("moved", tuple(shift)).applied_to(labels)


def three_predictions(labels):
    return [predicted(labels, seed) for seed in range(3)]


def by_monai(first, second, values):
    """Mean Dice by MONAI, of a class that neither holds 1."""
    both = [one_hot(torch.tensor(np.asarray(a, dtype=int))[None, None], 5) for a in (first, second)]
    dice = compute_dice(*both, include_background=True, ignore_empty=False)[0]
    return float(torch.nan_to_num(dice, 1.0)[list(values)].mean())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mean_dice_equals_that_of_monai(data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    first, second = (random.integers(0, data.draw(st.integers(1, 5)), (4, 5, 3)) for _ in range(2))
    values = sorted(data.draw(st.sets(st.integers(1, 4), min_size=1)))
    assert mean_dice(first, second, values) == pytest.approx(by_monai(first, second, values))


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), shift=st.tuples(*[st.integers(-8, 8)] * 3))
def test_moved_labels_equal_those_of_scipy(shape, shift):
    labels = np.random.default_rng(0).integers(0, 9, shape)
    assert np.array_equal(moved(labels, shift), ndimage.shift(labels, shift, order=0, mode="constant"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(4, 9))
def test_no_shift_is_better_than_the_best(seed, size):
    random = np.random.default_rng(seed)
    room = ((2, 2), (1, 1), (1, 1))  # nothing leaves the image
    labels = [np.pad(random.integers(0, 3, (size, 4, 3)), room) for _ in range(3)]
    spacing_mm = (LARGEST_SHIFT_MM / 2, LARGEST_SHIFT_MM, LARGEST_SHIFT_MM)  # 2, 1 and 1 voxels
    values = [1, 2]

    def dice(shift):
        return np.mean([mean_dice(moved(labels[0], shift), one, values) for one in labels[1:]])

    found = best_shift(labels[0], labels[1:], values, spacing_mm)
    assert dice(found) == pytest.approx(max(map(dice, product((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1)))), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    shift=st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(-2, 2)).filter(any), classes=st.integers(1, 3)
)
def test_a_displaced_reference_is_moved_back(shift, classes):
    labels = structure(tuple(range(1, classes + 1)))
    found = suspected_change(moved(labels, shift), three_predictions(labels), SPACING_MM)
    assert found is not None
    assert found.change == Change("moved", tuple(-step for step in shift))
    assert found.dice < found.dice_changed
    assert found.dice_changed == pytest.approx(found.agreement, abs=0.1)


def test_structures_all_over_a_large_volume_are_moved_back_by_steps_of_two_voxels(monkeypatch):
    monkeypatch.setattr(reference_changes, "MAXIMUM_VOXELS", 1000)  # of 2,500 or so, finest along the first axis
    labels = structure()
    found = suspected_change(moved(labels, (4, 0, 0)), three_predictions(labels), SPACING_MM)
    assert found is not None
    assert found.change.shift == (-4, 0, 0)


def test_a_mirrored_reference_is_mirrored_back():
    labels = structure(at=(7, 12, 10))
    found = suspected_change(np.flip(labels, 0), three_predictions(labels), (5.0, 5.0, 5.0))
    assert found is not None
    assert found.change == Change("mirrored", axis=0)


def test_exchanged_classes_are_exchanged_back():
    labels = structure((3, 7, 20))
    wrong = np.select([labels == 7, labels == 20], [20, 7], labels)
    found = suspected_change(wrong, three_predictions(labels), SPACING_MM)
    assert found is not None
    assert found.change == Change("exchanged", classes=(7, 20))
    assert np.array_equal(found.change.applied_to(wrong), labels)


def test_a_reference_in_place_is_not_suspected():
    labels = structure()
    assert suspected_change(labels, three_predictions(labels), SPACING_MM) is None


def test_one_prediction_that_the_change_does_not_fit_is_enough_to_reject_it():
    labels = structure()
    wrong = moved(labels, (3, 0, 0))
    assert suspected_change(wrong, three_predictions(labels), SPACING_MM) is not None
    assert suspected_change(wrong, [*three_predictions(labels), wrong], SPACING_MM) is None


def test_predictions_that_disagree_raise_no_suspicion():
    labels = structure()
    apart = [moved(labels, shift) for shift in ((4, 0, 0), (0, 5, 0), (4, -4, 0))]
    assert suspected_change(labels, apart, SPACING_MM) is None


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_predictions_raise_no_suspicion(count):
    labels = structure()
    assert suspected_change(moved(labels, (4, 0, 0)), [labels] * count, SPACING_MM) is None


def test_an_empty_reference_raises_no_suspicion():
    labels = structure()
    assert suspected_change(labels * 0, [labels, labels], SPACING_MM) is None


def test_empty_predictions_raise_no_suspicion():
    labels = structure()
    assert suspected_change(labels, [labels * 0, labels * 0], SPACING_MM) is None


def test_a_reference_is_not_suspected_for_parts_that_were_not_predicted():
    labels = structure()
    halves = [np.where(np.arange(labels.shape[2]) < 11, one, 0) for one in three_predictions(labels)]
    assert suspected_change(labels, halves, SPACING_MM) is None
