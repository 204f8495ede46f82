"""Surface and overlap metrics against MONAI and DeepMind's surface-distance, each where its definition agrees."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import (
    ConfusionMatrixMetric,
    DiceMetric,
    HausdorffDistanceMetric,
    MeanIoU,
)
from scipy.ndimage import binary_dilation, binary_erosion
from surface_distance import (
    compute_dice_coefficient,
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.metrics.surface import surface_distances, surface_voxels
from pipeline.records.tolerance import Tolerance

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPACINGS = [(1.0, 1.0, 1.0), (0.5, 1.0, 3.0), (0.7, 0.7, 5.0)]


def ours(reference, prediction, spacing, tolerance_mm=1.0):
    masks = reference.astype(np.uint8), prediction.astype(np.uint8)
    scores = evaluate_case("case", *masks, spacing, PanelSettings({1: "it"}, Tolerance(tolerance_mm)))
    return {score.metric: score.value for score in scores}


def monais(reference, prediction, spacing):
    both = {
        name: torch.from_numpy(mask[None, None].astype(np.float32))
        for name, mask in (("y_pred", prediction), ("y", reference))
    }
    options = {"include_background": True}
    surfaces = {
        "hausdorff_mm": HausdorffDistanceMetric(**options),
        "hausdorff95_mm": HausdorffDistanceMetric(percentile=95, **options),
    }
    overlaps = {
        "dice": DiceMetric(**options),
        "iou": MeanIoU(**options),
        "sensitivity": ConfusionMatrixMetric(metric_name="sensitivity", **options),
        "precision": ConfusionMatrixMetric(metric_name="precision", **options),
    }
    for metric in overlaps.values():
        metric(**both)
    found = {name: float(metric(spacing=spacing, **both)) for name, metric in surfaces.items()}
    for name, metric in overlaps.items():
        total = metric.aggregate()
        found[name] = float(total[0] if isinstance(total, list) else total)
    return found


def deepminds(reference, prediction, spacing, tolerance_mm=1.0):
    """Return surface Dice and, over both surfaces together, the mean distance."""
    elements = compute_surface_distances(reference, prediction, spacing)
    to_prediction, to_reference = elements["distances_gt_to_pred"], elements["distances_pred_to_gt"]
    of_reference, of_prediction = elements["surfel_areas_gt"], elements["surfel_areas_pred"]
    total = to_prediction @ of_reference + to_reference @ of_prediction
    return {
        "assd_mm": total / (of_reference.sum() + of_prediction.sum()),
        "nsd": compute_surface_dice_at_tolerance(elements, tolerance_mm),
    }


def assert_as_others(reference, prediction, spacing, tolerance_mm=1.0):
    """Compare Hausdorff distances and overlap with MONAI, metrics that weight by area with DeepMind."""
    found = ours(reference, prediction, spacing, tolerance_mm)
    expected = monais(reference, prediction, spacing) | deepminds(reference, prediction, spacing, tolerance_mm)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def single_voxels():
    reference, prediction = np.zeros((2, 6, 7, 8), bool)
    reference[1, 2, 3] = prediction[4, 2, 5] = True
    return reference, prediction


def at_the_border():
    reference, prediction = np.zeros((2, 8, 8, 8), bool)
    reference[:3, :, 5:] = prediction[:, :2, 4:] = True
    return reference, prediction


def whole_image():
    prediction = np.ones((6, 6, 6), bool)
    reference = prediction.copy()
    reference[2:4, 2:4, 2:4] = False
    return reference, prediction


def disjoint_and_scattered():
    random = np.random.default_rng(3)
    reference, prediction = np.zeros((2, 24, 20, 16), bool)
    reference[tuple(random.integers(0, (24, 20, 16), (5, 3)).T)] = True
    prediction[tuple(random.integers(0, (24, 20, 16), (40, 3)).T)] = True
    return reference, prediction & ~reference


@pytest.mark.parametrize("masks", [single_voxels, at_the_border, whole_image, disjoint_and_scattered])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_awkward_masks_agree_with_monai_and_deepmind(masks, spacing):
    assert_as_others(*masks(), spacing, 1.3)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), spacing=st.sampled_from(SPACINGS), tolerance_mm=st.sampled_from((0.4, 1.1, 4.0)))
def test_random_masks_agree_with_monai_and_deepmind(data, spacing, tolerance_mm):
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    reference, prediction = data.draw(arrays(bool, shape)), data.draw(arrays(bool, shape))
    assume(reference.any() and prediction.any())
    assert_as_others(reference, prediction, spacing, tolerance_mm)


@pytest.mark.parametrize("change", [binary_dilation, binary_erosion, lambda mask: np.roll(mask, (2, 1), (0, 2))])
def test_real_masks_agree_with_monai_and_deepmind(change):
    nibabel = pytest.importorskip("nibabel")
    path = DATA / "hippocampus" / "labelsTr" / "hippocampus_001.nii.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    image = nibabel.load(path)
    spacing = tuple(float(edge) for edge in image.header.get_zooms())
    labels = np.asanyarray(image.dataobj)
    for value in (1, 2):
        assert_as_others(labels == value, change(labels == value), spacing, 1.3)


def test_real_lesions_agree_with_monai_and_deepmind():
    nibabel = pytest.importorskip("nibabel")
    path = DATA / "ms_lesions" / "patient07" / "lesions.nii.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    lesions = np.asanyarray(nibabel.load(path).dataobj) > 0
    assert_as_others(lesions, np.roll(binary_dilation(lesions), 2, 1), (1.0, 1.0, 1.0), 1.3)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), spacing=st.sampled_from(SPACINGS))
def test_hausdorff_is_within_a_voxel_diagonal_of_deepminds(data, spacing):
    """Its surface elements sit on the corners of voxels, half a diagonal from the centres of ours, on either side."""
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    reference, prediction = data.draw(arrays(bool, shape)), data.draw(arrays(bool, shape))
    assume(reference.any() and prediction.any())
    theirs = compute_robust_hausdorff(compute_surface_distances(reference, prediction, spacing), 100)
    found = ours(reference, prediction, spacing)
    assert abs(found["hausdorff_mm"] - theirs) <= np.linalg.norm(spacing) + 1e-9
    assert found["dice"] == pytest.approx(compute_dice_coefficient(reference, prediction))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_has_the_hausdorff_of_deepmind_and_both_surface_dices_step_at_it(spacing, axis):
    reference = np.zeros((16, 16, 16), bool)
    reference[4:9, 4:9, 4:9] = True
    prediction = np.roll(reference, 3, axis)
    theirs = compute_surface_distances(reference, prediction, spacing)
    found = ours(reference, prediction, spacing)
    assert found["hausdorff_mm"] == pytest.approx(compute_robust_hausdorff(theirs, 100))
    assert found["hausdorff_mm"] == pytest.approx(3 * spacing[axis])
    for tolerance_mm, expected in ((3 * spacing[axis], 1.0), (2.9 * spacing[axis], None)):
        nsd = ours(reference, prediction, spacing, tolerance_mm)["nsd"]
        their_nsd = compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        if expected is None:
            assert nsd < 1
            assert their_nsd < 1
        else:
            assert nsd == their_nsd == expected


def test_a_surface_is_the_voxels_with_a_face_outside():
    mask = np.ones((4, 4, 4), bool)
    assert surface_voxels(mask).sum() == 64 - 8
    mask[0, 0, 0] = False
    assert surface_voxels(mask).sum() == 63 - 8
    assert surface_voxels(np.ones((5, 1, 1), bool)).all()


def test_distances_by_hand():
    reference, prediction = np.zeros((2, 1, 1, 12), bool)
    reference[0, 0, 0] = reference[0, 0, 4] = True
    prediction[0, 0, 0] = prediction[0, 0, 10] = True
    found = surface_distances(reference, prediction, (1.0, 1.0, 0.5))
    assert found.to_reference.tolist() == [0.0, 3.0]
    assert found.to_prediction.tolist() == [0.0, 2.0]
    assert found.hausdorff_mm == 3.0
    assert found.hausdorff95_mm == pytest.approx(2.85)
