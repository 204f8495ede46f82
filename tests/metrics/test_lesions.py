from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from pipeline.metrics.lesions import MINIMUM_IOU, LesionMatching, match_lesions
from pipeline.metrics.panel import PanelSettings, evaluate_case


def largest_total(iou):
    """Return the largest total of a one-to-one matching, by trying all of them."""
    rows, columns = iou.shape
    if rows > columns:
        return largest_total(iou.T)
    return max(
        sum(iou[row, column] for row, column in enumerate(chosen)) for chosen in permutations(range(columns), rows)
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_matching_is_the_best_of_all_over_pairs_that_overlap_enough(data):
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    sparse = arrays(bool, shape, elements=st.sampled_from((False, False, True)))
    reference, prediction = data.draw(sparse), data.draw(sparse)
    (lesions, count), (predicted, predicted_count) = (
        label(mask, np.ones((3, 3, 3))) for mask in (reference, prediction)
    )
    if not 0 < count < 6 or not 0 < predicted_count < 6:
        return
    iou = np.zeros((count, predicted_count))
    for row, column in np.ndindex(iou.shape):
        one, other = lesions == row + 1, predicted == column + 1
        iou[row, column] = (one & other).sum() / (one | other).sum()
    iou[iou < MINIMUM_IOU] = 0
    found = match_lesions(reference, prediction)
    assert sum(found.ious) == pytest.approx(largest_total(iou))
    assert (found.matched + found.missed, found.matched + found.false_positives) == (count, predicted_count)
    assert min(found.ious, default=1) >= MINIMUM_IOU


def spots():
    """Return 25 lesions of 27 voxels, in a plane."""
    mask = np.zeros((40, 40, 9), np.uint8)
    for x in range(4, 40, 8):
        for y in range(4, 40, 8):
            mask[x - 1 : x + 2, y - 1 : y + 2, 3:6] = 1
    return mask


def test_one_blob_over_25_lesions_matches_one_at_most():
    blob = np.zeros((40, 40, 9), np.uint8)
    blob[2:38, 2:38, 3:6] = 1
    found = {
        score.metric: score.value
        for score in evaluate_case("c", spots(), blob, (1, 1, 1), PanelSettings({1: "lesion"}))
    }
    assert found["lesion_f1"] <= 2 / 26
    assert found["panoptic_quality"] <= 2 / 26
    assert found["lesion_dice"] <= 1 / 25


def test_many_fragments_of_one_lesion_are_one_hit_and_false_positives():
    reference, prediction = np.zeros((2, 1, 1, 20), bool)
    reference[0, 0, 2:12] = True
    prediction[0, 0, 2:6] = prediction[0, 0, 7:9] = prediction[0, 0, 10:12] = True
    found = match_lesions(reference, prediction)
    assert found == LesionMatching(ious=(0.4,), missed=0, false_positives=2)
    assert found.f1 == 0.5


def test_a_touch_by_one_voxel_is_no_hit():
    reference, prediction = np.zeros((2, 8, 8, 8), bool)
    reference[0:3, 0:3, 0:3] = True
    prediction[2:5, 2:5, 2:5] = True
    assert match_lesions(reference, prediction) == LesionMatching(ious=(), missed=1, false_positives=1)


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    reference = np.zeros((4, 4, 4), bool)
    reference[0, 0, 0] = reference[1, 1, 1] = True
    assert match_lesions(reference, reference) == LesionMatching(ious=(1.0,), missed=0, false_positives=0)


@pytest.mark.parametrize("shape", [(9, 1, 1), (1, 9, 1), (1, 1, 9)])
def test_every_other_voxel_of_a_line_is_a_lesion_of_its_own(shape):
    reference = (np.arange(9) % 2 == 0).reshape(shape)
    assert match_lesions(reference, reference) == LesionMatching(ious=(1.0,) * 5, missed=0, false_positives=0)


def test_scores_by_hand():
    detection = LesionMatching(ious=(0.5, 1.0), missed=1, false_positives=2)
    assert detection.f1 == pytest.approx(4 / 7)
    assert detection.panoptic_quality == pytest.approx(1.5 / 3.5)
    assert detection.lesion_dice == pytest.approx((2 / 3 + 1) / 5)
    nothing = LesionMatching(ious=(), missed=2, false_positives=0)
    assert (nothing.f1, nothing.panoptic_quality, nothing.lesion_dice) == (0, 0, 0)


def test_masks_in_the_memory_order_of_nifti_are_read_alike():
    reference = np.zeros((5, 4, 3), bool)
    reference[0, 0], reference[4, 3] = True, True
    assert match_lesions(np.asfortranarray(reference), reference) == LesionMatching((1.0, 1.0), 0, 0)


def test_noise_of_a_network_that_learned_nothing_is_matched_in_seconds():
    random = np.random.default_rng(0)
    reference, noise, mask = random.random((3, 120, 120, 120)) > np.array([0.99, 0.99, 0.5]).reshape(3, 1, 1, 1)
    found = match_lesions(reference, noise | (reference & mask))
    assert found.matched > 5000  # one matrix of these would have 0.2 GB
