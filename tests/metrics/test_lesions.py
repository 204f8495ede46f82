import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from pipeline.metrics.lesions import Detection, detect


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_detection_is_that_of_a_loop_over_components(data):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    sparse = arrays(bool, shape, elements=st.sampled_from((False, False, False, True)))
    reference, prediction = data.draw(sparse), data.draw(sparse)
    (lesions, count), (predicted, predicted_count) = (
        label(mask, np.ones((3, 3, 3))) for mask in (reference, prediction)
    )
    found = sum(bool(prediction[lesions == index].any()) for index in range(1, count + 1))
    right = sum(bool(reference[predicted == index].any()) for index in range(1, predicted_count + 1))
    assert detect(reference, prediction) == Detection(found, count - found, predicted_count - right)


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    reference = np.zeros((4, 4, 4), bool)
    reference[0, 0, 0] = reference[1, 1, 1] = True
    assert detect(reference, reference) == Detection(found=1, missed=0, invented=0)


@pytest.mark.parametrize("shape", [(9, 1, 1), (1, 9, 1), (1, 1, 9)])
def test_every_other_voxel_of_a_line_is_a_lesion_of_its_own(shape):
    reference = (np.arange(9) % 2 == 0).reshape(shape)
    assert detect(reference, reference) == Detection(found=5, missed=0, invented=0)


def test_one_prediction_across_two_lesions_finds_both_and_invents_none():
    reference = np.zeros((1, 1, 7), bool)
    reference[0, 0, 1] = reference[0, 0, 5] = True
    detection = detect(reference, np.ones((1, 1, 7), bool))
    assert detection == Detection(found=2, missed=0, invented=0)
    assert detection.f1 == 1.0


def test_f1_by_hand():
    assert Detection(found=3, missed=1, invented=2).f1 == pytest.approx(6 / 9)
    assert Detection(found=0, missed=2, invented=0).f1 == 0.0


def test_masks_in_the_memory_order_of_nifti_are_read_alike():
    reference = np.zeros((5, 4, 3), bool)
    reference[0, 0], reference[4, 3] = True, True
    assert detect(np.asfortranarray(reference), reference) == Detection(2, 0, 0)
