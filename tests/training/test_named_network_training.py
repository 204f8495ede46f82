"""Trainings of networks with dropout and batch statistics, which the network of the plan does not have."""

import contextlib
import copy
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from pipeline.data.plan import Plan
from pipeline.network.architecture import build_network
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.weights_hash import weights_hash
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.preparation import PreparedCase
from pipeline.training.state import Training, TrainingState
from pipeline.training.trainer import train

NOISY = NetworkSpec.parse("UNet{dropout=0.3,norm=batch}")
Cases = tuple[PreparedCase, ...]


class CrossEntropy(nn.Module):
    """Cross entropy, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.factor * nn.functional.cross_entropy(logits, target[:, 0].long())


def make_training(plan: Plan, prepared: Cases, spec: NetworkSpec = NOISY, steps: int = 6, seed: int = 0) -> Training:
    return Training(
        network=build_network(plan, 1, 2, seed, 0, spec),
        loss=CrossEntropy(),
        sampler=PatchSampler(prepared, plan, seed, 0),
        learning_rate=1e-2,
        steps=steps,
        precision="float32",
        device=torch.device("cpu"),
    )


def hashes(training: Training) -> tuple[str, str]:
    return weights_hash(training.network), weights_hash(training.averaged_network)


def test_noise_is_the_same_in_each_training_of_a_seed(plan: Plan, prepared: Cases) -> None:
    results = []
    for global_seed, seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        training = make_training(plan, prepared, seed=seed)
        train(training, interval=3)
        assert torch.equal(state, torch.get_rng_state())
        results.append(hashes(training))
    assert results[0] == results[1] != results[2]


def test_noise_differs_between_steps_but_not_between_losses(plan: Plan, prepared: Cases) -> None:
    masks: list[list[torch.Tensor]] = []
    for factor in (1.0, 3.0):
        training = make_training(plan, prepared, steps=2)
        training.loss = CrossEntropy(factor)
        dropout = next(module for module in training.network.modules() if isinstance(module, nn.Dropout3d | nn.Dropout))
        masks.append([])
        dropout.register_forward_hook(lambda module, args, output: masks[-1].append(output == 0))
        train(training, interval=2)
    assert torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[0][1], masks[1][1])
    assert not torch.equal(masks[0][0], masks[0][1])


def test_a_training_with_noise_continues_as_if_uninterrupted(plan: Plan, prepared: Cases, tmp_path: Path) -> None:
    whole = make_training(plan, prepared)
    train(whole, interval=3)

    class Stopped(Exception):
        pass

    resume: ResumePoint[TrainingState] = ResumePoint(tmp_path)

    def stop(training: Training) -> None:
        resume.save(training.state())
        raise Stopped

    first = make_training(plan, prepared)
    with contextlib.suppress(Stopped):
        train(first, interval=3, on_interval=stop)
    torch.manual_seed(99)
    second = make_training(plan, prepared)
    state = resume.load()
    assert state is not None
    second.restore(state)
    train(second, interval=3)
    assert second.step == whole.step
    assert hashes(second) == hashes(whole)


def test_averaged_weights_have_statistics_of_batches_that_fit_them(plan: Plan, prepared: Cases) -> None:
    spec = NetworkSpec.parse("UNet{norm=batch}")
    training = make_training(plan, prepared, spec, steps=60)
    batches: list[torch.Tensor] = []
    training.network.register_forward_pre_hook(lambda module, args: batches.append(args[0].detach()))
    train(training, interval=60)
    averaged = training.averaged_network
    exact = copy.deepcopy(averaged)
    exact._forward_pre_hooks.clear()
    averaged._forward_pre_hooks.clear()
    update_bn(batches, exact)
    latest = copy.deepcopy(averaged)
    latest.load_state_dict(dict(averaged.state_dict()) | dict(training.network.named_buffers()))
    initial = copy.deepcopy(averaged)
    initial.load_state_dict(dict(averaged.state_dict()) | dict(build_network(plan, 1, 2, 0, 0, spec).named_buffers()))
    image = torch.cat(batches[-8:])
    with torch.no_grad():
        reference, *others = [net.eval()(image).softmax(1) for net in (exact, averaged, latest, initial)]
    errors = [float((other - reference).abs().mean()) for other in others]
    print("mean difference of probabilities to exact statistics: averaged, latest, initial", errors)
    assert errors[0] < errors[2] / 2
    counts = [int(buffer) for name, buffer in averaged.named_buffers() if name.endswith("num_batches_tracked")]
    assert set(counts) == {60}
