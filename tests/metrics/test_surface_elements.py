import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import correlate
from surface_distance.lookup_tables import (
    ENCODE_NEIGHBOURHOOD_3D_KERNEL,
    create_table_neighbour_code_to_surface_area,
)

from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.metrics.surface_elements import corner_codes, element_areas_mm2, surface_elements
from pipeline.records.tolerance import Tolerance


def thick_slices():
    """Return a box of 14 x 14 x 50 mm in voxels of 0.7 x 0.7 x 5 mm, with a side moved out and with an end cut off."""
    reference = np.zeros((40, 40, 16), np.uint8)
    reference[10:30, 10:30, 3:13] = 1
    side, end = reference.copy(), reference.copy()
    side[30:33, 10:30, 3:13] = 1  # 2.1 mm too far along a side of 14 x 50 mm
    end[:, :, 12] = 0  # 5 mm too short at an end of 14 x 14 mm
    return reference, side, end


def scores(reference, prediction, spacing, tolerance_mm=1.0):
    found = evaluate_case("c", reference, prediction, spacing, PanelSettings({1: "it"}, Tolerance(tolerance_mm)))
    return {score.metric: score.value for score in found}


def test_on_thick_slices_an_error_of_a_large_side_is_worse_than_one_of_a_small_end():
    """Counting says the opposite: an end has 400 surface voxels of 0.49 mm², a side 200 of 3.5 mm²."""
    reference, side, end = thick_slices()
    of_side, of_end = (scores(reference, mask, (0.7, 0.7, 5.0)) for mask in (side, end))
    assert of_side["nsd"] < of_end["nsd"]
    assert of_side["assd_mm"] > of_end["assd_mm"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 0.5, 1.0)])
def test_areas_of_all_256_corners_are_those_of_deepmind(spacing):
    theirs = create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(element_areas_mm2(spacing)[1:255], theirs[1:255], rtol=1e-6)
    assert element_areas_mm2(spacing)[[0, 255]].tolist() == [0, 0]


@settings(max_examples=30, deadline=None)
@given(mask=arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))
def test_codes_of_corners_are_those_of_deepmind(mask):
    padded = np.pad(mask, ((0, 1),) * 3).astype(np.uint8)
    expected = correlate(padded, ENCODE_NEIGHBOURHOOD_3D_KERNEL.astype(np.uint8), mode="constant", cval=0)
    np.testing.assert_array_equal(corner_codes(mask), expected)


def test_the_area_of_a_large_box_is_nearly_that_of_its_faces():
    mask = np.zeros((62, 62, 62), bool)
    mask[1:-1, 1:-1, 1:-1] = True
    found = surface_elements(mask, mask, (0.5, 1.0, 2.0))
    x, y, z = 60 * 0.5, 60 * 1.0, 60 * 2.0
    assert found.area_mm2 / 2 == pytest.approx(2 * (x * y + y * z + x * z), rel=0.02)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_surface_and_its_outside_have_the_same_area(data):
    mask = data.draw(arrays(bool, (4, 4, 4)))
    assume(mask.any() and not mask.all())
    spacing = (0.7, 1.0, 5.0)
    areas = element_areas_mm2(spacing)
    inner = (slice(1, -1),) * 3  # the outside of the image belongs to neither
    assert areas[corner_codes(mask)[inner]].sum() == pytest.approx(areas[corner_codes(~mask)[inner]].sum())


def test_distances_by_hand():
    """One voxel each, three voxels apart: eight corners, of which those that face each other are two voxels apart."""
    reference, prediction = np.zeros((2, 1, 1, 12), bool)
    reference[0, 0, 1] = prediction[0, 0, 4] = True
    found = surface_elements(reference, prediction, (1.0, 1.0, 0.5))
    assert sorted(found.to_reference) == [1.0] * 4 + [1.5] * 4
    assert found.assd_mm == pytest.approx(1.25)  # all eight corners have the same area
    assert found.nsd(1.0) == pytest.approx(0.5)
    assert found.nsd(1.5) == 1.0


def test_a_shift_by_ten_voxels_of_a_tenth_of_a_millimeter_in_float32_is_within_one():
    reference, prediction = np.zeros((2, 1, 1, 12), bool)
    reference[0, 0, 0] = prediction[0, 0, 10] = True
    edge = float(np.float32(0.1))
    assert 10 * edge > 1
    assert surface_elements(reference, prediction, (1.0, 1.0, edge)).nsd(1.0) == 1.0


@pytest.mark.parametrize(
    ("reference", "prediction", "spacing"),
    [(np.ones((2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1)), (np.zeros((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)),
     (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1))],
)  # fmt: skip
def test_masks_without_a_surface_to_compare_are_refused(reference, prediction, spacing):
    with pytest.raises(ValueError, match=r"differ|empty|positive"):
        surface_elements(reference.astype(bool), prediction.astype(bool), spacing)
