"""nnU-Net's augmentation against nnU-Net's own, and its random streams."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.plan import Plan
from pipeline.training.nnunet_augmentation import NnUNetRanges, nnunet_transforms
from pipeline.training.patch_sampling import InputHash, PatchSampler, batches

pytest.importorskip("batchgeneratorsv2", reason="needs nnU-Net: pip install 'segloss[nnunet]'")

RANGES = NnUNetRanges()
STILL = NnUNetRanges(0, 0, 0, 0, 0, 0, 0, 0, 0, mirror=())
FLAT = (48, 48, 12)


def flat(plan: Plan) -> Plan:
    """Return a plan with thick slices along the last axis."""
    return replace(plan, patch=FLAT, spacing_mm=(1.0, 1.0, 5.0))


def hash_of_inputs(sampler: PatchSampler, prefetch: bool = False, first: int = 0) -> str:
    running = InputHash()
    augmentation = sampler.augmentation.build(sampler.plan, sampler.seed, sampler.fold)
    for batch in batches(sampler, first, 6, prefetch):
        draw = int(batch["step"]) * sampler.plan.batch
        running.update(*augmentation(batch["image"], batch["label"].float(), draw))
    return running.state


def nnunet_trainer():
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    try:
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"nnU-Net cannot be imported ({error})")
    return nnUNetTrainer


@pytest.mark.parametrize("anisotropic", [False, True])
def test_transforms_are_those_of_nnunet(anisotropic: bool) -> None:
    patch, degrees = ((12, 48, 48), 180.0) if anisotropic else ((32, 40, 32), 30.0)
    angle = degrees / 360 * 2 * np.pi
    theirs = nnunet_trainer().get_training_transforms(patch, (-angle, angle), None, (0, 1, 2), anisotropic)
    ours = nnunet_transforms(patch, RANGES, anisotropic, degrees)

    def text(transform: object) -> str:
        return re.sub(r"\b(\d+)\.0\b", r"\1", repr(transform).replace("benchmark = True", "benchmark = False"))

    assert [type(one) for one in ours.transforms] == [type(one) for one in theirs.transforms]
    assert [text(one) for one in ours.transforms] == [text(one) for one in theirs.transforms]


@pytest.mark.parametrize("patch", [(64, 64, 64), (40, 56, 40), (128, 96, 112)])
def test_a_crop_has_the_size_that_nnunet_loads(plan: Plan, patch: tuple[int, int, int]) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size

    angle = np.deg2rad(30)
    theirs = get_patch_size(patch, (-angle, angle), (-angle, angle), (-angle, angle), (0.85, 1.25))
    ours = np.asarray(RANGES.crop_shape(replace(plan, patch=patch)))
    assert np.abs(ours - theirs).max() <= 1
    assert not ((ours - patch) % 2).any()


def test_a_crop_of_thick_slices_has_the_slices_of_the_patch(plan: Plan) -> None:
    crop = RANGES.crop_shape(flat(plan))
    assert crop[2] == 12
    assert crop[0] == crop[1] == 48 + int(48 / 0.85 - 48) // 2 * 2


@pytest.mark.parametrize("is_flat", [False, True])
def test_without_any_change_the_patch_is_the_middle_of_the_crop(plan: Plan, is_flat: bool) -> None:
    plan = flat(plan) if is_flat else plan
    crop = torch.rand(2, 2, *STILL.crop_shape(plan))
    label = (crop[:, :1] > 0.5).float()
    image, target = STILL.build(plan, 0, 0)(crop, label, 0)
    middle = [
        slice((long - short) // 2, (long - short) // 2 + short)
        for long, short in zip(crop.shape[2:], plan.patch, strict=True)
    ]
    assert torch.equal(image, crop[:, :, *middle])
    assert torch.equal(target, label[:, :, *middle])


@pytest.mark.parametrize("is_flat", [False, True])
def test_image_and_label_move_alike(plan: Plan, is_flat: bool) -> None:
    plan = flat(plan) if is_flat else plan
    ranges = replace(STILL, rotation=1.0, scaling=1.0, mirror=(0, 1, 2))
    label = torch.zeros(4, 1, *ranges.crop_shape(plan))
    label[:, :, label.shape[2] // 2 :, label.shape[3] // 3 :] = 1
    image, target = ranges.build(plan, 0, 0)(label.clone(), label, 0)
    assert ((image > 0.5).float() == target).float().mean() > 0.98
    assert not torch.equal(target[0], target[1])
    assert set(target.unique().tolist()) == {0.0, 1.0}


def test_thick_slices_are_rotated_in_plane_only(plan: Plan) -> None:
    plan = flat(plan)
    ranges = replace(STILL, rotation=1.0)
    ramp = torch.arange(12.0).expand(1, 1, *ranges.crop_shape(plan)).clone()
    image, _ = ranges.build(plan, 0, 0)(ramp, torch.zeros_like(ramp), 0)
    middle = image[0, 0, 24, 24]
    torch.testing.assert_close(middle, torch.arange(12.0))


def test_inputs_depend_on_neither_prefetching_nor_the_global_generators(plan: Plan, prepared) -> None:
    sampler = PatchSampler(prepared, plan, 3, 1, augmentation=RANGES)
    first = hash_of_inputs(sampler)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    state = torch.get_rng_state()
    assert hash_of_inputs(sampler, prefetch=True) == first
    assert torch.equal(state, torch.get_rng_state())
    assert hash_of_inputs(sampler, first=1) != first


def test_each_draw_has_a_stream_of_its_own(plan: Plan) -> None:
    crop = torch.rand(4, 1, *RANGES.crop_shape(plan))
    label = (crop > 0.5).float()
    together, _ = RANGES.build(plan, 0, 0)(crop, label, 8)
    for i in range(4):
        alone, _ = RANGES.build(plan, 0, 0)(crop[i : i + 1], label[i : i + 1], 8 + i)
        assert torch.equal(alone[0], together[i])
    others = [RANGES.build(plan, seed, fold)(crop, label, draw)[0] for seed, fold, draw in ((1, 0, 8), (0, 1, 8))]
    assert not any(torch.equal(together, other) for other in others)


def test_crops_stay_as_they_were(plan: Plan) -> None:
    crop = torch.rand(2, 1, *RANGES.crop_shape(plan))
    before = crop.clone()
    RANGES.build(plan, 0, 0)(crop, crop.clone(), 0)
    assert torch.equal(crop, before)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (["Anterior", "Posterior"], (0, 1, 2)),
        (["left ventricle", "right ventricle"], (1, 2)),
        (["Parotid_L", "Parotid_R", "Larynx"], (1, 2)),
        (["LeftKidney", "RightKidney"], (1, 2)),
        (["left atrium", "aorta"], (0, 1, 2)),
        (["lung l", "liver"], (0, 1, 2)),
    ],
)
def test_left_and_right_are_not_exchanged_where_classes_are_named_by_side(names: list[str], axes: object) -> None:
    assert RANGES.for_classes(names).mirror == axes


@pytest.mark.parametrize("is_flat", [False, True])
def test_only_the_given_axes_are_mirrored(plan: Plan, is_flat: bool) -> None:
    plan = flat(plan) if is_flat else plan
    ranges = replace(STILL, mirror=(1, 2))
    crop = torch.rand(1, 1, *ranges.crop_shape(plan)).expand(12, 1, -1, -1, -1)
    unchanged, _ = STILL.build(plan, 0, 0)(crop, crop, 0)
    image, _ = ranges.build(plan, 0, 0)(crop, crop, 0)
    seen = set()
    for before, after in zip(unchanged, image, strict=True):
        axes = [dims for dims in ((), (2,), (3,), (2, 3)) if torch.equal(before.flip(dims), after)]
        assert len(axes) == 1
        seen.add(axes[0])
    assert len(seen) == 4
