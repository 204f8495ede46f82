"""Measure the cost of the diagnostics of a training: a record every ten steps, or steps that only clip gradients.

    python benchmarks/diagnostics.py [--steps 40] [--repeats 3]

Network and patches are those of the hippocampus dataset; images are noise. Trainings use one thread and float32, and
are interleaved. The medians over the repeats of each kind are compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.bundle.repository_bundle import PLAN as READY
from pipeline.losses import LossSpec, build_loss
from pipeline.network.architecture import build_network
from pipeline.training import handlers
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.preparation import PreparedCase
from pipeline.training.state import Training
from pipeline.training.trainer import train

PLAN = replace(READY, patch=(40, 56, 40))
NEVER = 10**9


def noise_case(folder: Path) -> PreparedCase:
    """Return a prepared case of noise with a box for a label."""
    random = np.random.default_rng(0)
    shape = PLAN.patch
    label = np.zeros(shape, np.uint8)
    label[10:20, 10:30, 10:20] = 1
    np.save(folder / "image.npy", random.standard_normal((1, *shape)).astype(np.float32))
    np.save(folder / "label.npy", label)
    np.savez(folder / "foreground.npz", **{"1": np.flatnonzero(label)})
    (folder / "prepared.json").write_text(json.dumps({"shape": shape, "affine": np.eye(4).tolist()}))
    return PreparedCase("noise", folder, shape, tuple(map(tuple, np.eye(4).tolist())))


def seconds_of(case: PreparedCase, steps: int, record_every: int) -> float:
    """Train, and return the wall-clock time in seconds."""
    handlers.EVENT_INTERVAL = record_every
    loss = build_loss(LossSpec("dice_ce"), (1000, 100))
    network = build_network(PLAN, 1, 2, 0, 0)
    sampler, device = PatchSampler((case,), PLAN, 0, 0), torch.device("cpu")
    training = Training(network, loss, sampler, 1e-3, steps, "float32", device)
    start = time.perf_counter()
    train(training, interval=steps)
    return time.perf_counter() - start


def main() -> None:
    """Print the cost in percent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    usual = handlers.EVENT_INTERVAL
    with tempfile.TemporaryDirectory() as folder:
        case = noise_case(Path(folder))
        seconds_of(case, 4, usual)
        taken: dict[int, list[float]] = {usual: [], NEVER: []}
        for _ in range(arguments.repeats):
            for every, found in taken.items():
                found.append(seconds_of(case, arguments.steps, every))
    with_records, without = (statistics.median(found) for found in taken.values())
    cost = 100 * (with_records / without - 1)
    costs = f"{with_records:.2f} s with diagnostics, {without:.2f} s without: {cost:+.1f} %"
    print(f"{arguments.steps} steps, median of {arguments.repeats}: {costs}")


if __name__ == "__main__":
    main()
