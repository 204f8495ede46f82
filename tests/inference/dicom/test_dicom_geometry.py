"""Stacks of slices are checked by their positions alone, without files."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.inference.dicom.geometry import at_one_position, normal_of, plane_of, stack

SPACING = (1.0, 1.0)


def places(seed: int, count: int, gap_mm: float) -> tuple[np.ndarray, list[float]]:
    """Return positions (count, 3) along the normal of a random orientation, and that orientation."""
    turned = Rotation.random(random_state=seed).as_matrix()
    return np.outer(np.arange(count) * gap_mm, turned[2]) + 50 * turned[0], [*turned[0], *turned[1]]


@given(st.integers(0, 10_000), st.integers(3, 40), st.floats(0.3, 12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_order_and_distance_do_not_depend_on_the_order_of_files(seed: int, count: int, gap: float, order: int) -> None:
    positions, orientation = places(seed, count, gap)
    shuffled = random.Random(order).sample(range(count), count)
    built = stack(positions[shuffled], orientation, SPACING)
    assert built.problem is None
    assert [shuffled[index] for index in built.order] == list(range(count))
    assert built.spacing_mm == pytest.approx(gap)


@given(st.integers(0, 10_000), st.integers(6, 40), st.floats(0.5, 12), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_missing_inner_slice_is_reported_with_its_position(seed: int, count: int, gap: float, where: float) -> None:
    positions, orientation = places(seed, count, gap)
    gone = 1 + round(where * (count - 3))
    built = stack(np.delete(positions, gone, axis=0), orientation, SPACING)
    along = positions @ normal_of(orientation)
    assert built.problem is not None
    assert built.problem.text.startswith(
        f"1 slice missing between {built.along_mm[gone - 1]:.2f} and {built.along_mm[gone]:.2f} mm"
    )
    assert built.along_mm[gone - 1] == pytest.approx(along[gone - 1])


@given(st.integers(0, 10_000), st.floats(3, 35), st.sampled_from([-1, 1]))
@settings(max_examples=40, deadline=None)
def test_a_tilt_is_reported_with_its_angle(seed: int, degrees: float, sign: int) -> None:
    positions, orientation = places(seed, 20, 3.0)
    slide = sign * np.asarray(orientation[3:]) * 3.0 * np.tan(np.radians(degrees))
    built = stack(positions + np.outer(np.arange(20), slide), orientation, SPACING)
    assert built.is_tilted
    assert built.tilt_degrees == pytest.approx(degrees, abs=1e-6)
    assert built.problem is not None
    assert f"{degrees:.1f}°" in built.problem.text


def test_slices_shifted_irregularly_are_not_a_tilt() -> None:
    positions = [(0, 0, 0), (0, 5, 3), (0, 0, 6), (0, 5, 9)]
    built = stack(positions, (1, 0, 0, 0, 1, 0), SPACING)
    assert not built.is_tilted
    assert built.problem is not None
    assert "not on one line" in built.problem.text


def test_rounded_positions_are_regular_and_a_tenth_of_a_slice_is_not() -> None:
    rounded = [(0, 0, round(number * 0.8333333, 2)) for number in range(30)]
    assert stack(rounded, (1, 0, 0, 0, 1, 0), SPACING).problem is None
    moved = [(0, 0, number * 2.0 + (0.2 if number == 4 else 0)) for number in range(9)]
    assert stack(moved, (1, 0, 0, 0, 1, 0), SPACING).problem is not None


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        ((1, 0, 0, 0, 1, 0), "Axial"),
        ((0, 1, 0, 0, 0, -1), "Sagittal"),
        ((1, 0, 0, 0, 0, -1), "Coronal"),
        ((0.999679, 0.02533, 0, -0.0244148, 0.963561, -0.26637), "Axial"),
        ((1, 0, 0, 0, 0.5, -0.866), "Coronal"),
    ],
)
def test_the_plane_is_the_nearest_plane_of_the_body(orientation: tuple[float, ...], plane: str) -> None:
    assert plane_of(orientation) == plane


def test_positions_within_a_hundredth_of_a_millimeter_are_one() -> None:
    points = [(0, 0, 0), (0, 0, 0.004), (0, 0, 3), (5, 0, 3), (0, 0, 0), (0, 0, 3.02)]
    assert sorted(sorted(group) for group in at_one_position(points)) == [[0, 1, 4], [2], [3], [5]]
