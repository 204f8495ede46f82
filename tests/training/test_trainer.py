import math
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.network.architecture import build_network
from pipeline.network.weights_hash import weights_hash
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.handlers import StopOnNonFiniteLoss
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.state import NonFiniteError, Training
from pipeline.training.trainer import clock_s, train


class CrossEntropy(nn.Module):
    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target[:, 0].long())


class NanFromStep(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, logits, target):
        self.calls += 1
        return logits.mean() * (math.nan if self.calls >= self.step else 1.0)


def make_training(plan, prepared, loss=None, steps=12, seed=0, rate=1e-2):
    network = build_network(plan, 1, 2, seed, 0)
    sampler = PatchSampler(prepared[:4], plan, seed, 0)
    return Training(network, loss or CrossEntropy(), sampler, rate, steps, "float32", torch.device("cpu"))


def test_training_lowers_the_loss(plan, prepared):
    events = []
    train(make_training(plan, prepared, steps=40), interval=40, on_event=events.append)
    assert [event.step for event in events] == [10, 20, 30, 40]
    assert events[-1].loss < 0.8 * events[0].loss
    assert all(0 <= event.logit_gradient_foreground <= 1 for event in events)


def test_the_learning_rate_rises_then_falls_to_nothing(plan, prepared):
    events = []
    train(make_training(plan, prepared, steps=40), interval=40, on_event=events.append)
    rates = [event.learning_rate for event in events]
    assert rates[0] > rates[1] > rates[2] > rates[3]
    assert rates[3] < 1e-4 < 1e-2 >= rates[0]


def test_two_trainings_with_one_seed_are_identical(plan, prepared):
    hashes = []
    for _ in range(2):
        training = make_training(plan, prepared)
        train(training, interval=100)
        hashes.append((weights_hash(training.averaged_network), training.input_hash.state))
    assert hashes[0] == hashes[1]


def test_a_training_interrupted_and_continued_equals_one_that_was_not(plan, prepared, tmp_path):
    whole = make_training(plan, prepared)
    train(whole, interval=100)

    class Stop(Exception):
        pass

    def stop(training):
        save_checkpoint(tmp_path / "resume.pt", training.state())
        raise Stop

    with pytest.raises(Stop):
        train(make_training(plan, prepared), interval=5, on_interval=stop)
    continued = make_training(plan, prepared)
    continued.restore(load_checkpoint(tmp_path / "resume.pt"))
    assert continued.step == 5
    train(continued, interval=100)
    assert weights_hash(continued.averaged_network) == weights_hash(whole.averaged_network)
    assert continued.input_hash.state == whole.input_hash.state


def test_inputs_and_initial_weights_do_not_depend_on_the_loss(plan, prepared):
    hashes, initial = set(), set()
    for loss in (CrossEntropy(), NanFromStep(1000)):
        training = make_training(plan, prepared, loss)
        initial.add(weights_hash(training.network))
        train(training, interval=100)
        hashes.add(training.input_hash.state)
    assert len(hashes) == len(initial) == 1


def test_a_nan_loss_stops_before_it_reaches_the_weights(plan, prepared):
    training = make_training(plan, prepared, NanFromStep(4))
    with pytest.raises(NonFiniteError, match="step 4"):
        train(training, interval=100)
    assert training.step == 3
    assert all(torch.isfinite(p).all() for p in training.network.parameters())


def test_on_a_gpu_a_nan_loss_is_noticed_a_step_later_and_at_once_in_steps_with_an_event():
    def noticed(first_nan):
        training = SimpleNamespace(step=0, steps=25, device=torch.device("cuda"))
        check = StopOnNonFiniteLoss(training)
        for step in range(1, 26):
            loss = torch.tensor(math.nan if step >= first_nan else 1.0)
            try:
                check(SimpleNamespace(state=SimpleNamespace(output={"loss": loss})))
            except NonFiniteError as error:
                return error.step, step
            training.step = step
        return None

    assert noticed(3) == (3, 4)
    assert noticed(9) == (9, 10)
    assert noticed(10) == (10, 10)
    assert noticed(25) == (25, 25)
    assert noticed(26) is None


def test_initial_weights_leave_the_global_generator_as_it_was(plan):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    build_network(plan, 1, 2, 0, 0)
    assert torch.equal(torch.rand(2), expected)


def test_a_loss_with_a_schedule_receives_the_progress(plan, prepared):
    fractions = []

    class Scheduled(CrossEntropy):
        def set_progress(self, fraction):
            fractions.append(fraction)

    train(make_training(plan, prepared, Scheduled(), steps=4), interval=10)
    assert fractions == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("threads", "counts"), [(1, False), (2, True)])
def test_the_clock_of_one_thread_leaves_out_what_others_took(threads, counts):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        start = clock_s(torch.device("cpu"))
        time.sleep(0.2)
        slept = clock_s(torch.device("cpu")) - start
    finally:
        torch.set_num_threads(before)
    assert (slept >= 0.2) == counts
