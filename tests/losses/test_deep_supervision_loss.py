"""The loss over several resolutions, and overlap over a whole batch, against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from pipeline.losses import build_loss, parse_losses
from pipeline.losses.catalogue import CATALOGUE
from pipeline.losses.deep_supervision import DeeplySupervised, supervision_weights, use_batch_overlap


def loss_named(text: str) -> nn.Module:
    return build_loss(parse_losses(text)[0], (900, 100))


@pytest.mark.parametrize(
    ("resolutions", "weights"),
    [(1, [1]), (2, [1, 0]), (3, [2 / 3, 1 / 3, 0]), (5, [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])],
)
def test_weights_halve_and_leave_out_the_lowest_resolution(resolutions: int, weights: list[float]) -> None:
    assert supervision_weights(resolutions) == pytest.approx(weights)


def test_each_resolution_is_compared_with_labels_of_its_own() -> None:
    target = torch.zeros(1, 1, 4, 4, 4)
    target[..., 1:3] = 1
    # The nearest voxels of a grid with half the resolution are those with odd indices.
    coarse_target = target[:, :, 1::2, 1::2, 1::2]
    fine, coarse, lowest = torch.randn(1, 2, 4, 4, 4), torch.randn(1, 2, 2, 2, 2), torch.randn(1, 2, 1, 1, 1)
    ce = loss_named("ce")
    expected = 2 / 3 * ce(fine, target) + 1 / 3 * ce(coarse, coarse_target)
    torch.testing.assert_close(DeeplySupervised(ce)((fine, coarse, lowest), target), expected)


def test_an_output_that_does_not_count_is_not_computed() -> None:
    loss = DeeplySupervised(loss_named("ce"))
    fine = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    lowest = torch.full((1, 2, 2, 2, 2), torch.nan, requires_grad=True)
    loss((fine, lowest), torch.zeros(1, 1, 4, 4, 4)).backward()
    assert lowest.grad is None
    assert fine.grad is not None
    assert fine.grad.isfinite().all()


def test_a_single_output_has_the_loss_itself() -> None:
    logits, target = torch.randn(2, 2, 4, 4, 4), torch.ones(2, 1, 4, 4, 4)
    loss = loss_named("dice_ce")
    torch.testing.assert_close(DeeplySupervised(loss)(logits, target), loss(logits, target))


def test_progress_reaches_a_loss_with_a_schedule() -> None:
    inner = loss_named("boundary")
    DeeplySupervised(inner).set_progress(1.0)
    assert inner.inner.boundary_weight == 0.5
    DeeplySupervised(nn.MSELoss()).set_progress(1.0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_is_finite_at_several_resolutions(name: str) -> None:
    loss = loss_named(name)
    use_batch_overlap(loss)
    outputs = [torch.randn(2, 2, edge, edge, edge, requires_grad=True) for edge in (8, 4, 2)]
    value = DeeplySupervised(loss)(tuple(outputs), (torch.rand(2, 1, 8, 8, 8) > 0.7).float())
    value.backward()
    assert value.ndim == 0
    assert all(one.grad is not None and one.grad.isfinite().all() for one in outputs[:2])


def test_the_overlap_of_a_batch_counts_the_voxels_of_all_images() -> None:
    # Two images of four voxels with 3 and 1 of foreground; every voxel is predicted as foreground with certainty.
    target = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]]).reshape(2, 1, 4, 1, 1)
    logits = torch.cat([torch.full_like(target, -50), torch.full_like(target, 50)], 1)
    loss = loss_named("dice")
    assert float(loss(logits, target)) == pytest.approx(1 - (6 / 7 + 2 / 5) / 2, abs=1e-4)
    use_batch_overlap(loss)
    assert float(loss(logits, target)) == pytest.approx(1 - 8 / 12, abs=1e-4)


@pytest.mark.parametrize("name", ["dice", "dice_ce", "dice_focal", "dice_topk", "tversky", "log_cosh_dice", "jaccard"])
def test_overlap_losses_of_a_batch_differ_and_others_do_not(name: str) -> None:
    logits, target = torch.randn(2, 2, 4, 4, 4), (torch.rand(2, 1, 4, 4, 4) > 0.5).float()
    target[0, :, :2] = 0

    def change(text: str) -> float:
        loss = loss_named(text)
        before = loss(logits, target)
        use_batch_overlap(loss)
        return abs(float(loss(logits, target) - before))

    assert change(name) > 1e-6
    assert change("ce") == change("focal") == 0
