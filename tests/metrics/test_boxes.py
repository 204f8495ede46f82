import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.metrics.boxes import bounding_box, class_boxes


def by_argwhere(mask):
    points = np.argwhere(mask)
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(points.min(0), points.max(0), strict=True))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), values=st.sampled_from([(1, 2, 3), (2, 1025, 60000), (7,)]))
def test_boxes_are_those_of_all_voxels_of_a_value_in_either_map(data, values):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    labels = arrays(np.uint16, shape, elements=st.sampled_from((0, 0, 0, 5, *values)))
    reference, prediction = data.draw(labels), data.draw(labels)
    found = class_boxes(reference, prediction, values)
    for value in values:
        either = (reference == value) | (prediction == value)
        assert (value in found) == either.any()
        if either.any():
            assert found[value] == by_argwhere(either)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, ">i2"])
def test_boxes_of_any_integer_type_and_order_of_memory(dtype):
    labels = np.zeros((4, 5, 6), dtype)
    labels[1:3, 2, 4:] = 2
    for stored in (labels, np.asfortranarray(labels)):
        assert class_boxes(stored, stored * 0, [1, 2]) == {2: (slice(1, 3), slice(2, 3), slice(4, 6))}


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty mask"):
        bounding_box(np.zeros((2, 2, 2), bool))
    assert class_boxes(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), [1]) == {}
