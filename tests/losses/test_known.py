"""Losses on what is known of a batch: what is unknown changes nothing, and complete labels give the same bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.losses import CATALOGUE, LossSpec, build_loss
from pipeline.losses.catalogue import USES_POSITIONS
from pipeline.losses.known import loss_on_known
from pipeline.losses.unknown_labels import refuse_losses_without_support

VOXELS = (10_000, 300, 40, 77)
NAMES = tuple(CATALOGUE)
WITHOUT_POSITIONS = [name for name in NAMES if name not in USES_POSITIONS]
SHAPE = (2, 4, 5, 6, 4)


def build(name, **arguments):
    return build_loss(LossSpec(name, arguments), VOXELS)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 1, *SHAPE[2:]), generator=generator).double()
    return logits, target, generator


def value_and_gradient(loss, logits, target, kept=None):
    logits = logits.clone().requires_grad_()
    value = loss_on_known(loss, logits, target, kept)
    value.backward()
    return value.detach(), logits.grad


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_complete_labels_give_the_same_bytes_as_without_the_mechanism(name):
    logits, target, _ = batch(0)
    plain = logits.clone().requires_grad_()
    value = build(name)(plain, target)
    value.backward()
    for kept in (None, [None, None]):
        assert same((value.detach(), plain.grad), value_and_gradient(build(name), logits, target, kept))


@pytest.mark.parametrize("name", WITHOUT_POSITIONS)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.02, 0.5, 0.98]))
def test_logits_of_ignored_voxels_change_nothing_and_get_no_gradient(name, seed, share):
    logits, target, generator = batch(seed)
    ignored = torch.rand(target.shape, generator=generator) < share
    target[ignored] = 255
    loss = build(name)
    value, gradient = value_and_gradient(loss, logits, target)
    other = torch.where(ignored, torch.randn(SHAPE, generator=generator, dtype=torch.float64), logits)
    assert same((value, gradient), value_and_gradient(loss, other, target))
    assert torch.isfinite(value)
    assert gradient[ignored.expand(SHAPE)].eq(0).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**16), kept=st.sampled_from([(0, 1, 3), (0, 2), (0, 1), (0,)]))
def test_the_label_of_a_class_that_was_not_annotated_changes_nothing(name, seed, kept):
    logits, target, generator = batch(seed)
    unknown = torch.isin(target[:1], torch.tensor([index for index in range(4) if index not in kept]).double())
    redrawn = target.clone()
    others = [0, *(index for index in range(4) if index not in kept)]
    random = torch.randint(0, len(others), target[:1].shape, generator=generator)
    free = unknown | (target[:1] == 0)
    redrawn[:1] = torch.where(free, torch.tensor(others).double()[random], target[:1])
    loss = build(name)
    found = value_and_gradient(loss, logits, target, [kept, None])
    assert same(found, value_and_gradient(loss, logits, redrawn, [kept, None]))
    assert torch.isfinite(found[0])
    assert torch.isfinite(found[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_probability_may_move_freely_between_background_and_unknown_classes(name):
    logits, target, _ = batch(3)
    target[target == 2] = 0
    kept = [(0, 1, 3)] * 2
    value, _ = value_and_gradient(build(name), logits, target, kept)
    moved = logits.clone()
    union = torch.logsumexp(logits[:, [0, 2]], 1)
    moved[:, 0], moved[:, 2] = union - np.log(4), union + np.log(3 / 4)
    torch.testing.assert_close(value, value_and_gradient(build(name), moved, target, kept)[0])


def test_cross_entropy_on_known_voxels_is_that_with_ignore_index():
    logits, target, generator = batch(1)
    logits, target = logits[:1], target[:1]
    target[torch.rand(target.shape, generator=generator) < 0.5] = 255
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0].long(), ignore_index=255)
    torch.testing.assert_close(loss_on_known(build("ce"), logits, target), expected)


def test_a_class_mean_does_not_count_classes_that_are_unknown():
    logits, target, _ = batch(2)
    logits, target = logits[:1], target[:1]
    p, truth = logits.softmax(1)[:, 3], (target[:, 0] == 3).double()
    dice = 1 - (2 * (p * truth).sum() + 1e-5) / (p.sum() + truth.sum() + 1e-5)
    torch.testing.assert_close(loss_on_known(build("dice"), logits, target, [(0, 3)]), dice)


def test_class_weights_are_those_of_the_known_classes_and_are_restored():
    logits, target, _ = batch(2)
    loss = build("weighted_ce", weights=[1, 2, 3, 4])
    found = loss_on_known(loss, logits[:1], target[:1].clamp_max(1), [(0, 1)])
    reduced = build_loss(LossSpec("weighted_ce", {"weights": [1, 2]}), VOXELS[:2])
    merged = torch.cat([logits[:1, [0, 2, 3]].logsumexp(1, keepdim=True), logits[:1, 1:2]], 1)
    torch.testing.assert_close(found, reduced(merged, target[:1].clamp_max(1)))
    assert loss.inner.weight.tolist() == [1, 2, 3, 4]


def test_classes_are_merged_in_float32_even_if_logits_are_bfloat16():
    logits, target, _ = batch(7)
    logits = logits.bfloat16()
    kept = [(0, 3)] * 2
    torch.testing.assert_close(
        loss_on_known(build("ce"), logits, target, kept), loss_on_known(build("ce"), logits.float(), target, kept)
    )


@pytest.mark.parametrize("name", WITHOUT_POSITIONS)
def test_an_image_of_which_nothing_is_known_contributes_nothing(name):
    logits, target, _ = batch(4)
    alone = value_and_gradient(build(name), logits[:1], target[:1])[0]
    hidden = target.clone()
    hidden[1] = 255
    torch.testing.assert_close(value_and_gradient(build(name), logits, hidden)[0], alone)
    torch.testing.assert_close(value_and_gradient(build(name), logits, target, [None, (0,)])[0], alone)
    value, gradient = value_and_gradient(build(name), logits, torch.full_like(target, 255))
    assert value == 0
    assert gradient.eq(0).all()


def test_a_dice_of_whole_batches_takes_the_known_voxels_of_all_images_together():
    logits, target, generator = batch(5)
    target[torch.rand(target.shape, generator=generator) < 0.5] = 255
    known = (target != 255)[:, 0].flatten()
    row = logits.movedim(1, 0).flatten(1)[:, known][None]
    expected = build("dice")(row, target.flatten()[known][None, None])
    torch.testing.assert_close(loss_on_known(build("dice", batch=True), logits, target), expected)


class TakesKnown(torch.nn.Module):
    """A loss of the user that receives whole images and the mask of their known voxels."""

    def forward(self, logits, target, known):
        assert known.shape == target.shape
        assert not target[~known].any()
        return (logits.softmax(1)[:, :1] * known).sum() / known.sum()


class UsesPositions(torch.nn.Module):
    """A loss of the user that says that it needs the positions of voxels."""

    uses_positions = True

    def forward(self, logits, target):
        return logits.diff(dim=2).abs().mean()


class NeedsFourClasses(torch.nn.Module):
    """A loss of the user that cannot do with fewer classes."""

    def forward(self, logits, target):
        return (logits[:, 3] * (target[:, 0] == 3)).mean()


def test_a_loss_with_the_argument_known_receives_whole_images_and_their_mask():
    logits, target, _ = batch(6)
    loss = build_loss(LossSpec(f"{__name__}:TakesKnown"), VOXELS)
    whole = loss_on_known(loss, logits, target)
    torch.testing.assert_close(whole, logits.softmax(1)[:, 0].mean())
    target[:, :, 2:] = 255
    torch.testing.assert_close(loss_on_known(loss, logits, target), logits.softmax(1)[:, 0, :2].mean())


@pytest.mark.parametrize("name", sorted(USES_POSITIONS))
def test_a_loss_on_distances_is_refused_by_name_if_voxels_are_ignored(name):
    refuse_losses_without_support([LossSpec(name)], VOXELS, ignored=False, partial=True)
    with pytest.raises(ConfigError, match=rf"--losses {name}: needs the label of every voxel"):
        refuse_losses_without_support([LossSpec("ce"), LossSpec(name)], VOXELS, ignored=True, partial=False)


def test_a_loss_of_the_user_that_says_it_uses_positions_is_refused_if_voxels_are_ignored():
    own = LossSpec(f"{__name__}:UsesPositions")
    refuse_losses_without_support([own], VOXELS, ignored=False, partial=True)
    with pytest.raises(ConfigError, match="needs the label of every voxel"):
        refuse_losses_without_support([own], VOXELS, ignored=True, partial=False)


def test_all_other_losses_are_supported_and_a_loss_that_needs_all_classes_is_refused():
    every = [LossSpec(name) for name in WITHOUT_POSITIONS]
    refuse_losses_without_support(every, VOXELS, ignored=True, partial=True)
    own = LossSpec(f"{__name__}:NeedsFourClasses")
    refuse_losses_without_support([own], VOXELS, ignored=False, partial=False)
    with pytest.raises(ConfigError, match="could not be computed on a part of the voxels or classes"):
        refuse_losses_without_support([own], VOXELS, ignored=False, partial=True)
