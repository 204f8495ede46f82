from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.plan import Plan
from pipeline.network.rotation import rotation
from pipeline.training.augmentation import Augmentation, AugmentationRanges

STILL = AugmentationRanges(flip=0, affine=0, intensity=0, noise=0, blur=0)


def test_without_any_change_the_patch_is_the_middle_of_the_crop(plan):
    crop = torch.rand(2, 1, 20, 20, 20)
    label = (crop > 0.5).float()
    image, target = Augmentation(plan, 0, 0, STILL)(crop, label, 0)
    assert torch.equal(image, crop[:, :, 2:18, 2:18, 2:18])
    assert torch.equal(target, label[:, :, 2:18, 2:18, 2:18])


def test_a_crop_with_an_odd_margin_is_interpolated(plan):
    ramp = torch.arange(19.0).expand(1, 1, 19, 19, 19).contiguous()
    image, _ = Augmentation(plan, 0, 0, STILL)(ramp, ramp, 0)
    torch.testing.assert_close(image[0, 0, 0, 0], torch.arange(16.0) + 1.5)


def test_each_sample_is_moved_on_its_own(plan):
    crop, half = torch.rand(8, 1, 20, 20, 20), replace(STILL, affine=0.5)
    image, _ = Augmentation(plan, 0, 0, half)(crop, crop, 0)
    cut = [torch.equal(a, b) for a, b in zip(image, crop[:, :, 2:18, 2:18, 2:18], strict=True)]
    assert 0 < sum(cut) < 8
    for i in range(8):
        alone, _ = Augmentation(plan, 0, 0, half)(crop[i : i + 1], crop[i : i + 1], i)
        torch.testing.assert_close(alone[0], image[i])


def test_a_flip_turns_image_and_label_alike(plan):
    crop = torch.rand(1, 1, 20, 20, 20)
    image, target = Augmentation(plan, 0, 0, replace(STILL, flip=1.0))(crop, crop, 0)
    torch.testing.assert_close(image, crop[:, :, 2:18, 2:18, 2:18].flip(2, 3, 4))
    torch.testing.assert_close(target, image)


def test_labels_stay_class_indices(plan):
    label = torch.randint(0, 3, (2, 1, 20, 20, 20)).float()
    _, target = Augmentation(plan, 0, 0)(torch.rand(2, 1, 20, 20, 20), label, 0)
    assert set(target.unique().tolist()) <= {0.0, 1.0, 2.0}


def test_a_rotation_keeps_lengths_in_mm_not_in_voxels(plan):
    thick = replace(plan, spacing_mm=(1.0, 1.0, 4.0))
    ranges = replace(STILL, affine=1.0, rotation_degrees=30, scale=(1.0, 1.0))
    theta = Augmentation(thick, 0, 0, ranges)._theta(np.random.default_rng(0), torch.Size((16, 16, 16)))
    in_voxels = theta[:, :3].numpy()[::-1, ::-1]
    to_mm = np.diag(thick.spacing_mm)
    in_mm = to_mm @ in_voxels @ np.linalg.inv(to_mm)
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-6)


@given(angles=st.tuples(*[st.floats(-3, 3)] * 3))
def test_rotation_matrices_are_orthogonal(angles):
    matrix = rotation(np.asarray(angles))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) > 0


@settings(max_examples=20, deadline=None)
@given(draw=st.integers(0, 10_000))
def test_augmented_images_are_finite(draw):
    plan = Plan((1.0, 1.0, 3.0), (8, 8, 8), 1, ("zscore",), ((0, 1),), (0,), (1,), (4, 8), ((2, 2, 2),), 1.0, (), {})
    image, _ = Augmentation(plan, 0, 0)(torch.zeros(1, 2, 10, 10, 10), torch.zeros(1, 1, 10, 10, 10), draw)
    assert torch.isfinite(image).all()
