"""The optimizer against torch's own Muon and AdamW, the singular value decomposition, and the scale of gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.architecture import build_network
from pipeline.training.optimizer import MuonAdamW, orthogonalized


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, gradients: torch.Tensor) -> torch.Tensor:
    for gradient in gradients:
        parameter.grad = gradient.reshape(parameter.shape).clone()
        optimizer.step()
    return parameter.detach().flatten(1) if parameter.ndim > 1 else parameter.detach()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.sampled_from([1e-6, 1.0, 1e6]))
def test_singular_values_become_about_one_and_directions_stay(rows: int, columns: int, seed: int, scale: float) -> None:
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, _, right = torch.linalg.svd(drawn, full_matrices=False)
    spread = torch.linspace(1.0, 0.05, len(left.mT), dtype=torch.float64)
    (direction,) = orthogonalized([scale * left @ torch.diag(spread) @ right])
    found = left.mT @ direction @ right.mT
    assert torch.allclose(found, torch.diag(found.diagonal()), atol=1e-6)
    assert 0.6 < float(found.diagonal().min()) <= float(found.diagonal().max()) < 1.25


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not orthogonalized([torch.zeros(8, 20)])[0].any()


def test_matrices_together_are_as_each_alone() -> None:
    shapes = [(16, 54), (16, 200), (54, 16), (16, 16), (32, 54), (64, 32)]
    matrices = [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in shapes]
    for matrix, direction in zip(matrices, orthogonalized(matrices), strict=True):
        assert torch.allclose(direction, orthogonalized([matrix])[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 8, 3, 3, 3), (24, 16, 1, 1, 1), (32, 8, 2, 2, 2)])
def test_hidden_convolutions_move_as_with_torchs_muon(shape: tuple[int, ...]) -> None:
    drawn = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0))
    ours, other = nn.Parameter(drawn[0].clone()), nn.Parameter(drawn[0].flatten(1).clone())
    reference = torch.optim.Muon(
        [other], lr=0.02, weight_decay=0.01, momentum=0.9, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    moved = stepped(MuonAdamW([ours], 0.02), ours, drawn[1:]) - drawn[0].flatten(1)
    expected = stepped(reference, other, drawn[1:]) - drawn[0].flatten(1)
    assert float((moved - expected).norm() / expected.norm()) < 0.02  # torch's iterates in bfloat16


@pytest.mark.parametrize("shape", [(16,), (4, 8, 3, 3, 3), (16, 1, 3, 3, 3)])
def test_first_and_last_convolutions_and_norms_move_as_with_torchs_adamw(shape: tuple[int, ...]) -> None:
    drawn = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    ours, other = nn.Parameter(drawn[0].clone()), nn.Parameter(drawn[0].clone())
    expected = stepped(torch.optim.AdamW([other], 0.02, weight_decay=0.01), other, drawn[1:])
    assert torch.allclose(stepped(MuonAdamW([ours], 0.02), ours, drawn[1:]), expected, rtol=1e-6, atol=1e-7)


@given(st.floats(-6, 6))
def test_the_scale_of_a_loss_does_not_matter(exponent: float) -> None:
    drawn = torch.randn(4, 16, 16, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    weights = []
    for scale in (1.0, 10.0**exponent):
        parameter = nn.Parameter(drawn[0].clone())
        weights.append(stepped(MuonAdamW([parameter], 0.02), parameter, scale * drawn[1:]))
    assert torch.allclose(*weights, rtol=1e-3, atol=1e-4)


def test_a_network_without_gradients_stays_as_it_is(plan: Plan) -> None:
    network = build_network(plan, 1, 3, 0, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    MuonAdamW(network.parameters(), 0.02).step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_parameter_of_a_network_is_in_one_group(plan: Plan) -> None:
    network = build_network(plan, 1, 3, 0, 0)
    groups = MuonAdamW(network.parameters(), 0.02).param_groups
    muon = {id(parameter) for group in groups if group["muon"] for parameter in group["params"]}
    others = {id(parameter) for group in groups if not group["muon"] for parameter in group["params"]}
    assert not muon & others
    assert muon | others == {id(parameter) for parameter in network.parameters()}
    first_and_last = [p for p in network.parameters() if p.ndim == 5 and (p.shape[1] == 1 or p.shape[0] == 3)]
    assert first_and_last
    assert not {id(parameter) for parameter in first_and_last} & muon
