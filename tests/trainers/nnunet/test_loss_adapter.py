"""Losses in nnU-Net's convention: regions, ignored voxels, two and three spatial axes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.losses import CATALOGUE, LossSpec, build_loss
from pipeline.losses.catalogue import USES_CLASS_VOXELS, USES_POSITIONS
from pipeline.trainers.nnunet.loss_adapter import TargetFormat, adapted_loss

LOSSES = tuple(CATALOGUE)
WITHOUT_POSITIONS = tuple(name for name in CATALOGUE if name not in USES_POSITIONS)
VOXELS = (900, 80, 20)
IGNORED = 3
SHAPES = {2: (12, 10), 3: (8, 7, 6)}

seeds = st.integers(0, 10_000)
losses = st.sampled_from(WITHOUT_POSITIONS)
axes = st.sampled_from((2, 3))


def case(seed: int, axes: int = 3, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, 3, *S) and class indices (B, 1, *S), with every class in every image."""
    random = np.random.default_rng(seed)
    shape = SHAPES[axes]
    target = random.choice(3, (images, 1, *shape), p=(0.7, 0.2, 0.1))
    target.reshape(images, -1)[:, :3] = (0, 1, 2)
    logits = random.normal(size=(images, 3, *shape)) + 2 * np.moveaxis(np.eye(3)[target[:, 0]], -1, 1)
    return torch.tensor(logits, dtype=torch.float64), torch.from_numpy(target)


def region_target(target: torch.Tensor) -> torch.Tensor:
    """Return the regions (1, 2) and (2) as channels (B, 2, *S), as nnU-Net's transform gives them."""
    return torch.cat([target > 0, target == 2], 1)


def format_of(kind: str, ignore: bool = True) -> TargetFormat:
    if kind == "regions":
        return TargetFormat(((900, 100), (980, 20)), regions=True, ignore_label=IGNORED if ignore else None)
    return TargetFormat((VOXELS,), ignore_label=IGNORED if ignore else None)


def target_of(kind: str, target: torch.Tensor, ignored: torch.Tensor | None) -> torch.Tensor:
    """Return the target as nnU-Net gives it, with a mask (B, 1, *S) of ignored voxels if there is an ignore label."""
    if kind == "labels":
        return target if ignored is None else torch.where(ignored, IGNORED, target)
    regions = region_target(target)
    return regions if ignored is None else torch.cat([regions, ignored], 1)


def logits_of(kind: str, logits: torch.Tensor) -> torch.Tensor:
    return logits[:, :2] if kind == "regions" else logits


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_every_loss_trains_labels_and_regions_in_two_and_three_dimensions(name: str, axes: int, kind: str) -> None:
    logits, target = case(0, axes)
    logits = logits_of(kind, logits).float().requires_grad_()
    loss = adapted_loss(LossSpec(name), format_of(kind, ignore=False))
    value = loss(logits, target_of(kind, target, None))
    value.backward()
    assert value.ndim == 0
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_plain_labels_give_the_loss_itself(name: str) -> None:
    logits, target = case(1)
    assert torch.equal(
        adapted_loss(LossSpec(name), format_of("labels", ignore=False))(logits, target.short()),
        build_loss(LossSpec(name), VOXELS)(logits, target),
    )


def sigmoid_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the soft Dice loss of sigmoids, the mean over images and regions, as nnU-Net's paper defines it."""
    probability, axes = 1 / (1 + torch.exp(-logits)), (2, 3, 4)
    overlap = 2 * (probability * target).sum(axes) + 1e-5
    return 1 - (overlap / (probability.sum(axes) + target.sum(axes) + 1e-5)).mean()


def test_regions_give_binary_cross_entropy_and_dice_of_sigmoids() -> None:
    logits, target = case(2)
    regions = region_target(target)
    bce = functional.binary_cross_entropy_with_logits(logits[:, :2], regions.double())
    dice = sigmoid_dice(logits[:, :2], regions.double())
    for name, expected in (("ce", bce), ("dice", dice), ("dice_ce", dice + bce)):
        value = adapted_loss(LossSpec(name), format_of("regions", ignore=False))(logits[:, :2], regions)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_each_region_is_weighted_by_its_own_voxels() -> None:
    logits, target = case(3)
    regions = region_target(target)
    spec = LossSpec("weighted_ce")
    value = adapted_loss(spec, format_of("regions", ignore=False))(logits[:, :2], regions)
    zeros = torch.zeros_like(logits[:, :1])
    each = [
        build_loss(spec, voxels)(torch.cat([zeros, logits[:, i : i + 1]], 1), regions[:, i : i + 1])
        for i, voxels in enumerate(((900, 100), (980, 20)))
    ]
    torch.testing.assert_close(value, sum(each) / 2)


@given(losses, seeds, axes, st.sampled_from(("labels", "regions")))
def test_ignored_voxels_change_neither_loss_nor_gradient(name: str, seed: int, axes: int, kind: str) -> None:
    logits, target = case(seed, axes)
    random = torch.Generator().manual_seed(seed)
    ignored = torch.rand(target.shape, generator=random) < 0.4
    loss = adapted_loss(LossSpec(name), format_of(kind))
    logits = logits_of(kind, logits).requires_grad_()
    value = loss(logits, target_of(kind, target, ignored))
    value.backward()
    hidden = ignored.expand_as(logits)
    assert logits.grad[hidden].abs().max() == 0
    assert logits.grad[~hidden].abs().max() > 0

    others = torch.where(hidden, torch.randn(logits.shape, generator=random, dtype=torch.float64) * 5, logits)
    labels = torch.where(ignored, torch.randint(0, 3, target.shape, generator=random), target)
    assert loss(others, target_of(kind, labels, ignored)) == value


@given(losses, seeds, axes, st.sampled_from(("labels", "regions")))
def test_an_ignore_label_that_is_not_used_changes_nothing(name: str, seed: int, axes: int, kind: str) -> None:
    logits, target = case(seed, axes)
    logits = logits_of(kind, logits)
    nowhere = torch.zeros_like(target, dtype=torch.bool)
    with_label = adapted_loss(LossSpec(name), format_of(kind))(logits, target_of(kind, target, nowhere))
    without = adapted_loss(LossSpec(name), format_of(kind, ignore=False))(logits, target_of(kind, target, None))
    assert with_label == without


@given(losses, seeds, axes)
def test_ignoring_slices_gives_the_loss_of_the_image_without_them(name: str, seed: int, axes: int) -> None:
    logits, target = case(seed, axes)
    ignored = torch.zeros_like(target, dtype=torch.bool)
    ignored[:, :, -2:] = True
    value = adapted_loss(LossSpec(name), format_of("labels"))(logits, target_of("labels", target, ignored))
    plain = build_loss(LossSpec(name), VOXELS)
    kept = [plain(logits[image : image + 1, :, :-2], target[image : image + 1, :, :-2]) for image in range(2)]
    torch.testing.assert_close(value, sum(kept) / 2, rtol=1e-5, atol=1e-7)


def test_images_without_annotated_voxels_do_not_count() -> None:
    logits, target = case(4)
    ignored = torch.zeros_like(target, dtype=torch.bool)
    ignored[1] = True
    value = adapted_loss(LossSpec("dice_ce"), format_of("labels"))(logits, target_of("labels", target, ignored))
    torch.testing.assert_close(value, build_loss(LossSpec("dice_ce"), VOXELS)(logits[:1], target[:1]))


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_a_batch_without_annotated_voxels_gives_zero_with_gradients(kind: str) -> None:
    logits, target = case(5)
    logits = logits_of(kind, logits).requires_grad_()
    value = adapted_loss(LossSpec("dice_ce"), format_of(kind))(
        logits, target_of(kind, target, torch.ones_like(target, dtype=torch.bool))
    )
    value.backward()
    assert value == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_the_catalogue_knows_which_losses_use_positions(name: str) -> None:
    logits, target = case(6)
    order = torch.from_numpy(np.random.default_rng(6).permutation(target[0].numel()))
    loss = build_loss(LossSpec(name), VOXELS)
    shuffled = [tensor.flatten(2)[..., order].reshape(tensor.shape) for tensor in (logits, target)]
    same = torch.allclose(loss(logits, target), loss(*shuffled), rtol=1e-6)
    assert same == (name not in USES_POSITIONS)


@pytest.mark.parametrize("name", LOSSES)
def test_the_catalogue_knows_which_losses_use_class_voxels(name: str) -> None:
    logits, target = case(7)
    first, second = (build_loss(LossSpec(name), voxels)(logits, target) for voxels in (VOXELS, (500, 400, 1)))
    assert torch.equal(first, second) == (name not in USES_CLASS_VOXELS)


@pytest.mark.parametrize("name", sorted(USES_POSITIONS))
def test_losses_of_distances_are_refused_by_name_where_voxels_are_ignored(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loss {name}: uses positions or distances of voxels .* ignore label 3"):
        adapted_loss(LossSpec(name), format_of("labels"))


def test_a_loss_of_the_user_has_to_declare_that_it_uses_no_positions() -> None:
    with pytest.raises(ConfigError, match="set uses_positions = False"):
        adapted_loss(LossSpec("custom_losses:Undeclared"), format_of("labels"))
    logits, target = case(8)
    ignored = torch.zeros_like(target, dtype=torch.bool)
    ignored[..., 0] = True
    targets = target_of("labels", target, ignored)
    declared, known = (
        adapted_loss(LossSpec(name), format_of("labels"))(logits, targets)
        for name in ("custom_losses:OfSingleVoxels", "ce")
    )
    assert declared == known


def test_progress_reaches_the_schedule_of_every_region() -> None:
    logits, target = case(9)
    loss = adapted_loss(LossSpec("boundary"), format_of("regions", ignore=False))
    early = loss(logits[:, :2], region_target(target))
    loss.set_progress(1.0)
    assert loss(logits[:, :2], region_target(target)) != early
    assert [each.inner.boundary_weight for each in loss.losses] == [0.5, 0.5]
