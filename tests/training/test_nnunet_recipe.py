"""The recipe ``nnunet``: its facts against nnU-Net's own code, and trainings that repeat and continue."""

import contextlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.losses import parse_losses
from pipeline.network.weights_hash import weights_hash
from pipeline.records.events import TrainEvent
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.patch_sampling import PatchSampler, Sampling
from pipeline.training.preparation import PreparedCase
from pipeline.training.recipe import RECIPES, recipe_named
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.state import Training, TrainingState
from pipeline.training.trainer import train

Cases = tuple[PreparedCase, ...]

NNUNET = RECIPES["nnunet"]
needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None, reason="needs nnU-Net: pip install 'segloss[nnunet]'"
)


def make_training(plan: Plan, cases: Cases, loss: str = "dice_ce", recipe: str = "nnunet", steps: int = 4) -> Training:
    settings = RunSettings(
        loss=parse_losses(loss)[0],
        fold=0,
        seed=0,
        plan=plan,
        classes={1: "ball"},
        class_voxels=(1000, 100),
        training=cases,
        patients=tuple(case.id for case in cases),
        validation=(),
        originals={},
        steps=steps,
        precision="float32",
        learning_rates=(0.01,),
        recipe=RECIPES[recipe],
    )
    return new_training(settings, cases, 0.01, steps)


def hashes(training: Training) -> tuple[str, str, str]:
    return weights_hash(training.network), weights_hash(training.averaged_network), training.input_hash.state


def test_the_recipe_is_refused_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        recipe_named("nnunet")
    message = "--recipes nnunet: needs dynamic_network_architectures and batchgeneratorsv2; "
    assert str(refused.value) == f"{message}pip install 'segloss[nnunet]'"
    assert recipe_named("monai").name == "monai"


def test_the_optimizer_is_that_of_nnunet() -> None:
    optimizer = NNUNET.optimizer.build([torch.nn.Parameter(torch.ones(1))], 0.01)
    assert isinstance(optimizer, torch.optim.SGD)
    settings = {name: optimizer.defaults[name] for name in ("momentum", "nesterov", "weight_decay", "lr")}
    assert settings == {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5, "lr": 0.01}
    assert NNUNET.optimizer.rates.default == 0.01


@needs_nnunet
def test_the_learning_rate_falls_as_in_nnunet() -> None:
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    mine, theirs = (torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.01) for _ in range(2))
    schedule, reference = NNUNET.schedule.build(mine, 0.01, 50), PolyLRScheduler(theirs, 0.01, 50)
    for step in range(50):
        reference.step(step)
        assert mine.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-6)
        mine.step()
        schedule.step()


@pytest.mark.parametrize(("batch", "on_foreground"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (8, 3), (9, 3)])
def test_the_last_third_of_a_batch_is_on_foreground(batch: int, on_foreground: int) -> None:
    forced = [NNUNET.sampling.is_on_foreground(3 * batch + i, batch, chance=0.0) for i in range(batch)]
    assert forced == [False] * (batch - on_foreground) + [True] * on_foreground
    if batch > 1:  # nnU-Net has no smaller batch than two
        assert forced == [not i < round(batch * (1 - 0.33)) for i in range(batch)]


def test_patches_of_the_last_third_are_centered_on_foreground(plan: Plan, prepared: Cases) -> None:
    small = replace(plan, patch=(4, 4, 4), batch=3)
    sampler = PatchSampler(prepared, small, 0, 0, Sampling(0.33, last_of_batch=True))
    hits = []
    for draw in range(60):
        case = sampler.cache.open(sampler.case_of(draw))
        hits.append(bool(case.label[0][sampler.center(draw, case)]))
    assert all(hits[2::3])
    assert not any(hits[0::3] + hits[1::3]) or sum(hits[0::3] + hits[1::3]) < 20


def test_deep_supervision_and_batch_dice_and_no_average() -> None:
    assert NNUNET.deep_supervision
    assert NNUNET.batch_dice
    assert not NNUNET.weight_average


@needs_nnunet
def test_it_trains_at_full_resolution_and_reports_gradients(plan: Plan, prepared: Cases) -> None:
    events: list[TrainEvent] = []
    training = make_training(plan, prepared, steps=30)
    train(training, interval=30, on_event=events.append)
    assert events[-1].loss < events[0].loss
    assert all(event.logit_gradient_norm is not None and event.logit_gradient_norm > 0 for event in events)
    assert events[0].learning_rate == pytest.approx(0.01 * (1 - 9 / 30) ** 0.9)
    assert weights_hash(training.averaged_network) == weights_hash(training.network)
    image = torch.zeros(1, 1, *plan.patch)
    assert training.averaged_network.eval()(image).shape == (1, 2, *plan.patch)


@needs_nnunet
def test_all_losses_receive_the_same_patches(plan: Plan, prepared: Cases) -> None:
    feeds, initial = set(), set()
    for loss in ("ce", "dice", "boundary"):
        training = make_training(plan, prepared, loss)
        initial.add(weights_hash(training.network))
        train(training, interval=4)
        feeds.add(training.input_hash.state)
    assert len(feeds) == len(initial) == 1


@needs_nnunet
def test_two_trainings_of_one_seed_are_identical_and_a_continued_one_too(
    plan: Plan, prepared: Cases, tmp_path: Path
) -> None:
    whole, again = make_training(plan, prepared), make_training(plan, prepared)
    train(whole, interval=4)
    torch.manual_seed(99)
    train(again, interval=4)
    assert hashes(again) == hashes(whole)

    class Stopped(Exception):
        pass

    resume: ResumePoint[TrainingState] = ResumePoint(tmp_path)

    def stop(training: Training) -> None:
        resume.save(training.state())
        raise Stopped

    with contextlib.suppress(Stopped):
        train(make_training(plan, prepared), interval=2, on_interval=stop)
    continued = make_training(plan, prepared)
    state = resume.load()
    assert state is not None
    continued.restore(state)
    assert continued.step == 2
    train(continued, interval=4)
    assert hashes(continued) == hashes(whole)


def test_the_recipe_of_monais_tutorials_trains_without_augmentation(plan: Plan, prepared: Cases) -> None:
    events: list[TrainEvent] = []
    training = make_training(replace(plan, patch=(16, 16, 16)), prepared, "dice", "monai", steps=20)
    assert training.sampler.crop_shape == plan.patch
    train(training, interval=20, on_event=events.append)
    assert {event.learning_rate for event in events} == {0.01}
    assert isinstance(training.optimizer, torch.optim.Adam)
    assert weights_hash(training.averaged_network) == weights_hash(training.network)


def test_a_step_of_monais_recipe_sees_a_part_of_a_case(plan: Plan, prepared: Cases) -> None:
    sampler = make_training(plan, prepared, recipe="monai").sampler
    augmentation = sampler.augmentation.build(plan, 0, 0)
    image, label = sampler.sample(5)
    changed, changed_label = augmentation(image[None], label[None].float(), 5)
    assert torch.equal(changed[0], image)
    assert torch.equal(changed_label[0], label.float())
