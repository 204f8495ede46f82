"""The choice of number format: bfloat16 where it is faster *and* gives sound gradients, else float32."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import nn

from pipeline.network.network_noise import seeded_generators

Precision = Literal["float32", "bfloat16"]
"""Number format of the network's forward and backward pass; weights and losses are always float32."""

MINIMUM_SPEEDUP = 1.1
"""bfloat16 is chosen only if a training step is at least this many times as fast as in float32."""

EMULATION_SLOWDOWN = 10.0
"""A processor on which a convolution in bfloat16 takes this many times as long only emulates the format."""

ABORT_SLOWDOWN = 5.0
"""Timing stops after a warm-up step that takes this many times as long as a step in float32."""

LEFTOVER_SIZES = range(4, 22)
"""Binary logarithms of the sizes of freed tensors, whose memory the next tensors of about that size get."""


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute the enclosed forward pass in `precision`."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def choose_precision(
    network: nn.Module, patch: tuple[int, int, int], batch: int, in_channels: int, device: torch.device
) -> tuple[Precision, str]:
    """Time training steps in both formats and return the better format with the reason.

    The choice is made once per study and stored, so that all runs of a study use one format.

    Parameters
    ----------
    network
        Network on `device`; its gradients are cleared.
    patch
        Edges of a patch in voxels.
    batch
        Patches in a batch.
    in_channels
        Channels of the image.
    device
        Device to train on.

    Returns
    -------
    tuple of str
        The format, and a sentence that explains the choice.
    """
    # A processor may claim support for bfloat16 that is only emulated, so the cost is measured and not looked up.
    if (slowdown := bfloat16_slowdown(device)) >= EMULATION_SLOWDOWN:
        return "float32", f"bfloat16 is only emulated here: a convolution takes {slowdown:.0f} times as long"
    image = torch.rand((batch, in_channels, *patch), generator=torch.Generator().manual_seed(0)).to(device)
    float32_s = _step_seconds(network, image, "float32") or 0.0
    bfloat16_s = _step_seconds(network, image, "bfloat16", ABORT_SLOWDOWN * float32_s)
    if bfloat16_s is None:
        return "float32", "bfloat16 gave non-finite gradients in a trial step"
    speedup = float32_s / bfloat16_s
    if speedup < MINIMUM_SPEEDUP:
        return "float32", f"bfloat16 is only {speedup:.2f} times as fast here"
    if device.type == "cpu" and not is_repeatable(network, image):
        return "float32", "two equal trial steps in bfloat16 gave different gradients here"
    return "bfloat16", f"bfloat16 is {speedup:.2f} times as fast as float32 here"


@cache
def bfloat16_slowdown(device: torch.device) -> float:
    """Return how many times as long a small convolution takes in bfloat16 as in float32.

    Processors without bfloat16 emulate it dozens of times slower, so that even one trial step would take long.
    """

    def seconds(kind: torch.dtype) -> float:
        image = torch.ones((1, 16, 16, 16, 16), dtype=kind, device=device)
        weight = torch.ones((16, 16, 3, 3, 3), dtype=kind, device=device)
        return _best_of_three(lambda: torch.nn.functional.conv3d(image, weight, padding=1), device)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def is_repeatable(network: nn.Module, image: torch.Tensor) -> bool:
    """Return whether two steps in bfloat16 give equal gradients, whatever the memory held before.

    On CPUs, the gradient of a convolution over 2 x N x N voxels may read memory that was never written (torch 2.13 with
    oneDNN): such trainings could not be repeated, and become NaN now and then. On a GPU, gradients may differ in the
    order of sums alone, so that this says nothing there.

    Parameters
    ----------
    network
        Network on a CPU; its gradients are cleared.
    image
        Batch (B, C, *patch).
    """
    gradients = []
    for leftover in (0.0, math.nan):
        blocks = [torch.full((2**size,), leftover) for size in LEFTOVER_SIZES for _ in range(2)]
        del blocks
        with seeded_generators(0):
            _step(network, image, "bfloat16")
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    network.zero_grad(set_to_none=True)
    return all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def _step(network: nn.Module, image: torch.Tensor, precision: Precision) -> None:
    network.zero_grad(set_to_none=True)
    with autocast(precision, image.device):
        logits = network(image)
    logits.float().square().mean().backward()


def _step_seconds(
    network: nn.Module, image: torch.Tensor, precision: Precision, abort_s: float = math.inf
) -> float | None:
    """Return the seconds of the fastest of three training steps, or None if a gradient is not finite.

    The image is (B, C, *patch). On a CPU a warm-up step of more than `abort_s` seconds is the only step.
    """
    seconds = _best_of_three(lambda: _step(network, image, precision), image.device, abort_s)
    finite = all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)
    network.zero_grad(set_to_none=True)
    return seconds if finite else None


def _best_of_three(work: Callable[[], object], device: torch.device, abort_s: float = math.inf) -> float:
    """Return the seconds of the fastest of three calls after a warm-up call.

    On a CPU a warm-up of more than `abort_s` seconds ends the timing and is returned. On a GPU it says nothing about
    the speed, since the first call loads the kernels.
    """
    times: list[float] = []
    while len(times) < 4 and not (times and times[0] > abort_s and device.type == "cpu"):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:], default=times[0])
