"""Which number format the network computes in: bfloat16 where it is faster *and* sane, else float32."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "bfloat16"]

WORTHWHILE_RATIO = 1.1

EMULATED_RATIO = 10.0
"""A processor for which bfloat16 takes so many times as long only emulates it."""

HOPELESS_RATIO = 5.0
"""A first step that takes so many times as long as one in float32 is the last."""


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute the enclosed forward pass in `precision`."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def choose_precision(
    network: nn.Module, patch: tuple[int, int, int], batch: int, in_channels: int, device: torch.device
) -> tuple[Precision, str]:
    """Time one training step in both formats and return the better one with the reason.

    The choice is made once per study and stored, so that all runs of a study compute alike.
    """
    if (cost := bfloat16_cost(device)) >= EMULATED_RATIO:
        return "float32", f"bfloat16 is only emulated here: a convolution takes {cost:.0f} times as long"
    image = torch.rand((batch, in_channels, *patch), generator=torch.Generator().manual_seed(0)).to(device)
    single = _step_seconds(network, image, "float32") or 0.0
    half = _step_seconds(network, image, "bfloat16", HOPELESS_RATIO * single)
    if half is None:
        return "float32", "bfloat16 gave non-finite gradients in a trial step"
    ratio = single / half
    if ratio < WORTHWHILE_RATIO:
        return "float32", f"bfloat16 is only {ratio:.2f} times as fast here"
    return "bfloat16", f"bfloat16 is {ratio:.2f} times as fast as float32 here"


@cache
def bfloat16_cost(device: torch.device) -> float:
    """Return how many times as long as in float32 a small convolution takes in bfloat16.

    Processors without bfloat16 emulate it, dozens of times slower: there even one trial step takes long.
    """

    def seconds(kind: torch.dtype) -> float:
        image = torch.ones((1, 16, 16, 16, 16), dtype=kind, device=device)
        weight = torch.ones((16, 16, 3, 3, 3), dtype=kind, device=device)
        return _best_of_three(lambda: torch.nn.functional.conv3d(image, weight, padding=1), device)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def _step_seconds(
    network: nn.Module, image: torch.Tensor, precision: Precision, most: float = math.inf
) -> float | None:
    """Return the best of three timed steps after a warm-up, or None where gradients are not finite.

    A warm-up of more than `most` seconds is the only step, on a CPU: a GPU loads its kernels in it.
    """

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with autocast(precision, image.device):
            logits = network(image)
        logits.float().square().mean().backward()

    seconds = _best_of_three(step, image.device, most)
    finite = all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)
    network.zero_grad(set_to_none=True)
    return seconds if finite else None


def _best_of_three(work: Callable[[], object], device: torch.device, most: float = math.inf) -> float:
    """Return the seconds of the fastest of three calls after a warm-up, or of a CPU's warm-up of more than `most`."""
    times: list[float] = []
    while len(times) < 4 and not (times and times[0] > most and device.type == "cpu"):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:], default=times[0])
