import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scanned_cases import MRI, scan, scanned

from pipeline.data.fingerprint import ClassScan
from pipeline.data.patch_planning import MINIMUM_EDGE
from pipeline.data.planning import PATCH_VOXELS, make_plan, plan_for_budget
from pipeline.errors import ConfigError
from pipeline.records.metrics import Family, names_of
from pipeline.records.tolerance import ToleranceRequest


def plan_of(*scans, memory_gib=8.0, **options):
    return make_plan(*scanned(*scans, **options), memory_gib=memory_gib)


def test_the_hippocampus_is_trained_without_padding_and_predicted_whole():
    plan = plan_of(scan(voxels=(59000, 1600, 1500)))
    assert (plan.patch, plan.window, plan.spacing_mm) == ((32, 48, 32), (40, 56, 40), (1.0, 1.0, 1.0))
    assert (plan.stem, plan.strides, plan.channels) == ((2, 2, 2), ((2, 2, 2),) * 2, (16, 32, 64))
    assert plan.batch == 2
    assert plan.normalisation == ("zscore",)
    assert plan.tolerance_mm == 1.0


@pytest.mark.parametrize(
    ("voxels", "components"), [((59000, 1600, 400), 1), ((59000, 1600, 1500), 20), ((62000, 0, 0), 0)]
)
def test_small_structures_keep_a_first_level_at_full_resolution(voxels, components):
    case = scan(voxels=voxels)
    classes = {value: replace(item, components=components) for value, item in case.classes.items()}
    plan = plan_of(replace(case, classes=classes))
    assert (plan.stem, plan.strides, len(plan.channels)) == ((1, 1, 1), ((2, 2, 2),) * 3, 4)


@pytest.mark.parametrize(
    ("steps", "stem", "channels"),
    [
        (1499, (2, 2, 2), (16, 32, 64)),
        (1500, (1, 1, 1), (16, 32, 64, 128)),
    ],
)
def test_the_budget_chooses_between_two_networks_of_the_same_depth(steps, stem, channels):
    planned = plan_of(scan(voxels=(59000, 1600, 1500)))
    plan = plan_for_budget(planned, steps)
    assert (plan.stem, plan.channels) == (stem, channels)
    halvings = [math.prod(edges) for edges in zip(plan.stem, *plan.strides, strict=True)]
    assert halvings == [8, 8, 8]
    assert str(channels).strip("()") in plan.reasons["network"]


def test_small_structures_keep_their_network_whatever_the_budget():
    plan = plan_of(scan(voxels=(59000, 1600, 400)))
    assert [plan_for_budget(plan, steps) for steps in (10, 1500, 10_000)] == [plan] * 3


def test_a_window_is_given_only_where_the_patch_is_smaller_than_the_volume():
    assert plan_of(scan(shape=(40, 56, 40))).window is None
    assert plan_of(scan(shape=(400, 400, 400))).window is None
    assert plan_of(scan(shape=(33, 50, 36))).window == (40, 56, 40)


def test_every_choice_has_a_reason_with_a_number_in_it_unless_it_has_none():
    reasons = plan_of(scan()).reasons
    assert set(reasons) == {"spacing_mm", "patch", "network", "batch", "normalisation", "tolerance_mm", "metrics"}
    for name in set(reasons) - {"normalisation"}:
        assert any(letter.isdigit() for letter in reasons[name]), reasons[name]


def test_axes_are_put_into_ras_order_before_anything_is_planned():
    turned = scan(shape=(36, 35, 50), spacing=(3.0, 1.0, 2.0), orientation="ILP")
    assert plan_of(turned).spacing_mm == (1.0, 2.0, 3.0)
    assert plan_of(turned) == plan_of(scan(shape=(35, 50, 36), spacing=(1.0, 2.0, 3.0)))


def test_a_coarse_axis_takes_its_tenth_percentile_and_the_others_their_median():
    scans = [scan(f"c{i}", (256, 256, 20), (0.5, 0.5, 4.0 + i / 10), "RAS") for i in range(11)]
    plan = plan_of(*scans)
    assert plan.spacing_mm == pytest.approx((0.5, 0.5, 4.1))
    assert "10th percentile" in plan.reasons["spacing_mm"]
    assert plan.tolerance_mm == 0.5


@pytest.mark.parametrize(
    ("spacing", "expected"), [((1.5, 1.5, 10.0), 1.5), ((0.15, 0.15, 0.15), 0.15), ((10.0, 1.5, 1.5), 1.5)]
)
def test_the_tolerance_is_a_pixel_whatever_the_distance_of_slices(spacing, expected):
    assert plan_of(scan(spacing=spacing)).tolerance_mm == expected


def test_tolerances_are_those_that_the_user_gave():
    plan = make_plan(*scanned(scan()), tolerance=ToleranceRequest.parse("2,class 1=0.5"))
    assert (plan.tolerance.of("class 1"), plan.tolerance.of("class 2")) == (0.5, 2.0)
    assert plan.reasons["tolerance_mm"] == "2 mm for surface Dice: as given, 0.5 mm for class 1"
    with pytest.raises(ConfigError, match="class 9"):
        make_plan(*scanned(scan()), tolerance=ToleranceRequest.parse("class 9=1"))


def test_the_tenth_percentile_never_gets_finer_than_the_axes_in_plane():
    scans = [scan(f"c{i}", spacing=(0.2 if i < 2 else 5.0, 1.0, 1.0)) for i in range(7)]
    assert plan_of(*scans).spacing_mm == (1.0, 1.0, 1.0)


def test_a_coarse_axis_is_halved_once_the_others_are_as_coarse():
    plan = plan_of(scan(shape=(256, 256, 32), spacing=(1.0, 1.0, 4.0)))
    assert plan.strides == ((2, 2, 1), (2, 2, 2), (2, 2, 2))


def test_a_single_slice_is_never_halved_across():
    plan = plan_of(scan(shape=(300, 280, 1), spacing=(1.0, 1.0, 8.0)))
    assert (plan.patch, plan.window) == ((296, 280, 1), (304, 280, 1))
    assert all(stride == (2, 2, 1) for stride in plan.strides)


@pytest.mark.parametrize("shape", [(3000, 2000, 1), (512, 512, 20), (182, 218, 182), (65, 63, 64), (1, 1, 4000)])
def test_the_largest_patch_is_not_exceeded(shape):
    assert math.prod(plan_of(scan(shape=shape)).patch) <= PATCH_VOXELS


def test_a_cut_patch_keeps_the_proportions_and_says_that_it_is_cut():
    plan = plan_of(scan(shape=(200, 400, 200)))
    assert plan.patch[1] / plan.patch[0] == pytest.approx(2, rel=0.15)
    assert "proportions" in plan.reasons["patch"]
    assert "proportions" not in plan_of(scan()).reasons["patch"]


def test_little_memory_makes_the_patch_smaller():
    large, small = (plan_of(scan(shape=(200, 200, 200)), memory_gib=memory) for memory in (8.0, 0.5))
    assert math.prod(small.patch) < math.prod(large.patch) / 2
    assert math.prod(small.patch) * small.batch * 3000 <= 0.5 * 2**30


EDGE = st.integers(1, 700)
MM = st.floats(0.2, 9.0)


@settings(max_examples=150, deadline=None)
@given(st.tuples(EDGE, EDGE, EDGE), st.tuples(MM, MM, MM))
def test_any_volume_gets_a_network_that_fits_its_patch(shape, spacing):
    plan = plan_of(scan(shape=shape, spacing=spacing))
    factors = [math.prod(stride[axis] for stride in (plan.stem, *plan.strides)) for axis in range(3)]
    assert len(plan.channels) == len(plan.strides) + 1 <= 4
    for edge, factor in zip(plan.patch, factors, strict=True):
        assert edge % factor == 0
        assert factor == 1 or edge // factor >= MINIMUM_EDGE
    assert plan.batch >= 2
    assert math.prod(plan.patch) <= PATCH_VOXELS


@pytest.mark.parametrize(
    ("name", "expected"), [("CT", "ct"), ("abdomen_ct", "ct"), ("ct1", "zscore"), ("act", "zscore")]
)
def test_a_channel_named_ct_is_clipped_to_its_foreground(name, expected):
    plan = plan_of(scan(), channels=(name,))
    assert plan.normalisation == (expected,)
    assert plan.intensity_range == ((150.0, 600.0),)


def test_hounsfield_units_are_known_by_their_air():
    hounsfield = replace(MRI, minimum=-1024.0)
    assert plan_of(scan(channels=(hounsfield,)), channels=("image",)).normalisation == ("ct",)


def test_ct_mean_and_deviation_pool_the_cases():
    scans = [
        scan(name, channels=(replace(MRI, minimum=-1000.0, foreground_mean=mean, foreground_std=30.0),))
        for name, mean in (("a", 60.0), ("b", 140.0))
    ]
    plan = plan_of(*scans)
    assert plan.intensity_mean == (100.0,)
    assert plan.intensity_std == (50.0,)  # 30² within cases + 40² between them


def test_skull_stripped_images_are_normalized_over_nonzero_voxels():
    stripped = replace(MRI, zero_fraction=0.8)
    plan = plan_of(scan(channels=(stripped, MRI)), channels=("FLAIR", "T1"))
    assert plan.normalisation == ("zscore_nonzero", "zscore")
    assert "80%" in plan.reasons["normalisation"]


def test_a_ct_without_foreground_falls_back_to_a_z_score():
    empty = replace(
        MRI,
        minimum=-1000.0,
        foreground_mean=None,
        foreground_std=None,
        foreground_percentile_00_5=None,
        foreground_percentile_99_5=None,
    )
    assert plan_of(scan(channels=(empty,), voxels=(1000, 0))).normalisation == ("zscore",)


def test_lesion_wise_scores_are_suggested_where_structures_are_many():
    several = replace(scan(), classes={0: scan().classes[0], 1: ClassScan(90, 0.09, 5, 0.01, 0.03, (9.0, 9.0, 9.0))})
    lesions = set(names_of(Family.LESIONS))
    assert lesions <= set(plan_of(several).metrics)
    assert not lesions & set(plan_of(scan()).metrics)
    assert {"ace_foreground", "nll"} <= set(plan_of(scan()).metrics)


def test_the_plan_names_the_small_structures_for_which_surface_metrics_matter():
    reason = plan_of(scan(voxels=(90_000, 40, 6000))).reasons["metrics"]
    assert "class 1" in reason
    assert "class 2" not in reason


def test_a_plan_needs_a_case():
    with pytest.raises(ValueError, match="at least one"):
        plan_of()
