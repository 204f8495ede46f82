"""The choice of number format: emulated formats are not timed, and non-finite gradients rule a format out."""

import time

import torch
from torch import nn

from pipeline.network import precision

CPU = torch.device("cpu")
PATCH = (8, 8, 8)


def test_an_emulated_format_is_not_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda device: 38.0)
    monkeypatch.setattr(precision, "_step_seconds", lambda network, image, name, abort_s=0.0: tried.append(name))
    assert precision.choose_precision(nn.Conv3d(1, 2, 3), PATCH, 1, 1, CPU) == (
        "float32", "bfloat16 is only emulated here: a convolution takes 38 times as long",
    )  # fmt: skip
    assert not tried


def test_the_faster_finite_format_is_taken(monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda device: 1.0)
    for bfloat16, chosen in ((0.5, "bfloat16"), (0.95, "float32"), (None, "float32")):
        seconds = {"float32": 1.0, "bfloat16": bfloat16}
        monkeypatch.setattr(precision, "_step_seconds", lambda n, i, name, abort_s=0.0, seconds=seconds: seconds[name])
        assert precision.choose_precision(nn.Conv3d(1, 2, 3), PATCH, 1, 1, CPU)[0] == chosen


class Overflow(nn.Module):
    """A network whose gradients are not finite."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image):
        return image * self.weight / 0.0


def test_gradients_that_are_not_finite_are_seen():
    image = torch.ones((1, 1, *PATCH))
    assert precision._step_seconds(Overflow(), image, "float32") is None
    assert (precision._step_seconds(nn.Conv3d(1, 2, 3), image, "float32") or 0) > 0


def test_a_format_that_is_hopelessly_slow_is_tried_once():
    calls = []
    assert precision._best_of_three(lambda: calls.append(time.sleep(0.02)), CPU, abort_s=0.01) >= 0.02
    assert len(calls) == 1
    precision._best_of_three(lambda: calls.append(None), CPU, abort_s=10.0)
    assert len(calls) == 5


def test_a_gpu_is_not_judged_by_the_step_that_loads_its_kernels(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    durations = iter((0.1, 0.0, 0.0, 0.0))
    assert precision._best_of_three(lambda: time.sleep(next(durations)), torch.device("cuda"), abort_s=0.01) < 0.05


class Restless(nn.Conv3d):
    """A network whose gradients differ in each step."""

    def __init__(self):
        super().__init__(1, 2, 3)
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        return self.calls * super().forward(image)


def test_a_format_whose_gradients_differ_between_equal_steps_is_not_taken(monkeypatch):
    image = torch.rand((1, 1, *PATCH))
    assert precision.is_repeatable(nn.Sequential(nn.Conv3d(1, 2, 3), nn.Dropout(0.5)), image)
    assert not precision.is_repeatable(Restless(), image)
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda device: 1.0)
    monkeypatch.setattr(precision, "_step_seconds", lambda n, i, name, abort_s=0.0: {"float32": 1.0}.get(name, 0.5))
    chosen, reason = precision.choose_precision(Restless(), PATCH, 1, 1, CPU)
    assert (chosen, "different gradients" in reason) == ("float32", True)
