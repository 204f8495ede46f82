import pytest
import torch

from pipeline.losses import build_loss, parse_losses
from pipeline.network.architecture import build_network
from pipeline.network.weights_hash import weights_hash
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.schedule import Schedule
from pipeline.training.state import Training
from pipeline.training.trainer import train
from pipeline.training.warmup_stable_decay import decay_start


def training_of(plan, prepared, steps):
    return Training(
        network=build_network(plan, 1, 2, 0, 0),
        loss=build_loss(parse_losses("dice_ce")[0], (1000, 100)),
        sampler=PatchSampler(prepared, plan, 0, 0),
        learning_rate=0.004,
        steps=steps,
        precision="float32",
        device=torch.device("cpu"),
        schedule_choice=Schedule().for_budgets((5,)),
    )


def fingerprint(training):
    return weights_hash(training.network), weights_hash(training.averaged_network), training.input_hash.state


def test_a_fork_ends_with_the_weights_of_a_training_of_its_own_length(plan, prepared):
    torch.set_num_threads(1)
    long, short, own = (training_of(plan, prepared, steps) for steps in (10, 5, 5))
    train(long, interval=10, until=decay_start(5))
    short.fork(long)
    train(short, interval=10)
    train(own, interval=10)
    assert weights_hash(short.network) == weights_hash(own.network)
    assert short.input_hash.state == own.input_hash.state


def test_a_fork_changes_nothing_in_the_training_it_leaves(plan, prepared):
    torch.set_num_threads(1)
    alone, forked, short = (training_of(plan, prepared, steps) for steps in (8, 8, 5))
    train(alone, interval=8)
    train(forked, interval=8, until=decay_start(5))
    short.fork(forked)
    train(short, interval=8)
    train(forked, interval=8)
    assert fingerprint(forked) == fingerprint(alone)


def test_progress_of_a_fork_rises_from_that_of_the_longer_training_to_1(plan, prepared):
    long, short = training_of(plan, prepared, 20), training_of(plan, prepared, 10)
    long.step = 6
    short.fork(long)
    assert short.progress == 0.3
    short.step = 8
    assert short.progress == pytest.approx(0.65)
    short.step = 10
    assert short.progress == 1
