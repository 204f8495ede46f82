"""Optimizers and schedules by name, and their equality with a loop written by hand."""

from copy import deepcopy

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from pipeline.errors import ConfigError
from pipeline.losses import build_loss, parse_losses
from pipeline.network.architecture import build_network
from pipeline.network.weights_hash import weights_hash
from pipeline.training.augmentation import Augmentation
from pipeline.training.handlers import MAXIMUM_GRADIENT_NORM, average_decay
from pipeline.training.optimizer import MuonAdamW
from pipeline.training.optimizer_choice import OPTIMIZERS, OptimizerChoice
from pipeline.training.patch_sampling import PatchSampler, batches
from pipeline.training.schedule import SCHEDULES, Schedule
from pipeline.training.state import Training
from pipeline.training.trainer import train

STEPS, RATE = 8, 0.01


def make_training(plan, prepared, optimizer="muon", schedule="one_cycle"):
    return Training(
        network=build_network(plan, 1, 2, 0, 0),
        loss=build_loss(parse_losses("dice_ce")[0], (1000, 100)),
        sampler=PatchSampler(prepared, plan, 0, 0),
        learning_rate=RATE,
        steps=STEPS,
        precision="float32",
        device=torch.device("cpu"),
        optimizer_choice=OptimizerChoice.parse(optimizer),
        schedule_choice=Schedule.parse(schedule),
    )


def test_the_default_training_equals_a_loop_written_by_hand(plan, prepared):
    torch.set_num_threads(1)
    training = make_training(plan, prepared)
    train(training, interval=STEPS)
    network = build_network(plan, 1, 2, 0, 0).train()
    loss = build_loss(parse_losses("dice_ce")[0], (1000, 100))
    optimizer = MuonAdamW(network.parameters(), RATE)
    schedule = OneCycleLR(optimizer, RATE, STEPS, pct_start=0.15)
    augmentation, average = Augmentation(plan, 0, 0), deepcopy(network)
    for step, batch in enumerate(batches(PatchSampler(prepared, plan, 0, 0), 0, STEPS)):
        image, label = augmentation(batch["image"], batch["label"].float(), step * plan.batch)
        optimizer.zero_grad()
        loss(network(image), label).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAXIMUM_GRADIENT_NORM)
        optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1.0 if step == 0 else 1 - average_decay(STEPS))
        if step < STEPS - 1:
            schedule.step()
    assert weights_hash(training.network) == weights_hash(network)
    assert weights_hash(training.averaged_network) == weights_hash(average)


@pytest.mark.parametrize("schedule", [*SCHEDULES, "torch.optim.lr_scheduler.CosineAnnealingLR"])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "torch.optim.RMSprop{momentum=0.5}"])
def test_a_resumed_training_equals_an_uninterrupted_one(plan, prepared, optimizer, schedule):
    whole, begun, resumed = (make_training(plan, prepared, optimizer, schedule) for _ in range(3))
    train(whole, interval=STEPS)

    class Stop(Exception):
        pass

    def stop(training):
        resumed.restore(deepcopy(training.state()))
        raise Stop

    with pytest.raises(Stop):
        train(begun, interval=3, on_interval=stop)
    assert resumed.step == 3
    train(resumed, interval=STEPS)
    assert weights_hash(resumed.averaged_network) == weights_hash(whole.averaged_network)


def test_polynomial_decay_is_that_of_nnunet():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = Schedule("polynomial").build(optimizer, 0.01, 10)
    for step in range(10):
        assert schedule.get_last_lr()[0] == pytest.approx(0.01 * (1 - step / 10) ** 0.9)
        optimizer.step()
        schedule.step()


def test_a_schedule_replaces_another_one_from_its_largest_rate():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0, momentum=0.9)
    Schedule().build(optimizer, 0.5, 10)
    assert Schedule("constant").build(optimizer, 0.02, 10).get_last_lr() == [0.02]


def test_candidates_are_those_of_the_class_or_around_its_own_default():
    assert OptimizerChoice("torch.optim.SGD").rates == OptimizerChoice("sgd").rates
    low, middle, high = OptimizerChoice("torch.optim.RMSprop").rates.candidates
    assert low < middle == 0.01 < high
    assert {len(named.rates.candidates) for named in OPTIMIZERS.values()} == {3}


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (OptimizerChoice.parse, "sdg", "is an unknown optimizer"),
        (OptimizerChoice.parse, "torch.optim.Nothing", "could not be imported"),
        (OptimizerChoice.parse, "torch.nn.Conv3d", "is not an optimizer"),
        (OptimizerChoice.parse, "torch.optim.LBFGS", "several times per step"),
        (OptimizerChoice.parse, "sgd{speed=3}", "could not be built"),
        (OptimizerChoice.parse, "sgd{lr=3}", "must not set the learning rate"),
        (OptimizerChoice.parse, "sgd{momentum=0.9", "must be the name of an optimizer"),
        (Schedule.parse, "cosine", "is an unknown schedule"),
        (Schedule.parse, "torch.optim.lr_scheduler.ReduceLROnPlateau", "is not a schedule over steps"),
        (Schedule.parse, "torch.optim.SGD", "is not a schedule over steps"),
    ],
)
def test_what_cannot_train_is_refused_in_one_line(parse, text, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("torch.optim.Adagrad", "one_cycle"), ("muon", "polynomial{speed=3}")]
)
def test_a_schedule_that_does_not_fit_its_optimizer_is_refused(optimizer, schedule):
    weight = torch.nn.Parameter(torch.ones(8, 8, 1, 1, 1))
    with pytest.raises(ConfigError, match="could not be built"):
        Schedule.parse(schedule).try_with(OptimizerChoice(optimizer).build([weight], 1e-3))
