"""CUDA graphs. Without a GPU the tests check that captured functions accept numbers as tensors."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.architecture import build_network
from pipeline.network.cuda_graphs import CudaGraphFunction, CudaGraphInferer, capture_obstacle
from pipeline.network.network_spec import NetworkSpec
from pipeline.training.optimizer import MuonAdamW, muon_step

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_a_step_of_muon_is_the_same_with_numbers_as_tensors() -> None:
    drawn = torch.randn(3, 2, 16, 8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    lists = [[tensor.clone() for tensor in part] for part in drawn]
    others = copy.deepcopy(lists)
    muon_step(*lists, 0.9, 0.02, 0.001)
    muon_step(*others, *(torch.tensor(number) for number in (0.9, 0.02, 0.001)))
    for some, same in zip(lists, others, strict=True):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(some, same, strict=True))
    assert not torch.equal(lists[0][0], drawn[0][0])


def test_on_a_cpu_a_function_is_called_each_time_with_the_numbers() -> None:
    called = []
    function = CudaGraphFunction(lambda tensors, number: called.append((tensors, number)))
    tensors = [torch.zeros(2)]
    for number in (1.0, 2.0, 3.0):
        function([tensors], number)
    assert called == [(tensors, 1.0), (tensors, 2.0), (tensors, 3.0)]


@pytest.mark.parametrize(
    ("text", "obstacle"),
    [
        ("", ""),
        ("DynUNet", ""),
        ("DynUNet{dropout=0.1}", "its dropout would draw from another generator"),
        ("DynUNet{norm_name=batch}", "its buffers would change before the first step"),
        ("SegResNet", "SegResNet may compute differently in each step"),
    ],
)
def test_only_networks_that_repeat_their_kernels_are_captured(plan: Plan, text: str, obstacle: str) -> None:
    assert capture_obstacle(build_network(plan, 1, 2, 0, 0, NetworkSpec.parse(text))) == obstacle


def test_the_network_behind_a_stem_is_captured(plan: Plan) -> None:
    assert capture_obstacle(build_network(replace(plan, stem=(2, 2, 2)), 1, 2, 0, 0)) == ""


@on_a_gpu
def test_a_replayed_function_uses_new_numbers_and_new_contents() -> None:
    def add(tensors: list[torch.Tensor], number: float | torch.Tensor) -> None:
        tensors[0].add_(number)

    place, function = torch.zeros(3, device="cuda"), CudaGraphFunction(add)
    for number in (1.0, 2.0, 3.0, 4.0):
        function([[place]], number)
    assert place.tolist() == [10.0] * 3
    other = torch.zeros(3, device="cuda")
    function([[other]], 5.0)
    assert (other.tolist(), place.tolist()) == ([5.0] * 3, [10.0] * 3)


@on_a_gpu
def test_a_graphed_training_goes_as_one_without_graphs(plan: Plan) -> None:
    device = torch.device("cuda")
    batches = torch.randn(6, 2, 1, *plan.patch, generator=torch.Generator().manual_seed(0)).to(device)
    losses: list[list[float]] = []
    for graphed in (False, True):
        network = build_network(plan, 1, 2, 0, 0).to(device)
        optimizer = MuonAdamW(network.parameters(), 0.01)
        infer = CudaGraphInferer(network, tuple(batches[0].shape), "float32", device) if graphed else None
        losses.append([])
        for batch in batches:
            logits = infer(batch, network) if infer else network(batch)
            loss = nn.functional.cross_entropy(logits, (batch[:, 0] > 0).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0][-1] < losses[0][0]
