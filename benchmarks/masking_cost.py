"""Measure what unknown labels cost in each training step.

    python benchmarks/masking_cost.py ../shared/data/acdc [--rounds 15] [--losses ce,dice,dice_ce]

The plan is that of the dataset. Each round takes one step with complete labels, some with ignored voxels and one in
which a class was not annotated, in a random order and with one thread, and compares their CPU times. Printed are the
medians over rounds: of the step with complete labels in milliseconds, and of the ratios to it in percent.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.data.datalists import read_dataset
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.losses import build_loss, parse_losses
from pipeline.losses.known import Kept, loss_on_known
from pipeline.network.architecture import build_network

SHARES = (0.01, 0.5, 0.99)
"""Shares of voxels that are annotated."""


def main() -> None:
    """Print a line for each loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--losses", default="ce,dice,dice_ce")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    found = scan_dataset(read_dataset(options.data))
    plan = make_plan(found.dataset, found.fingerprint)
    voxels = list(found.fingerprint.class_voxels().values())
    classes = len(voxels)
    network = build_network(plan, len(plan.normalisation), classes, 0, 0)
    image = torch.randn(plan.batch, len(plan.normalisation), *plan.patch)
    label = torch.randint(0, classes, (plan.batch, 1, *plan.patch)).float()
    partial: list[Kept] = [tuple(range(classes - 1))] * plan.batch
    targets: dict[str, tuple[torch.Tensor, list[Kept] | None]] = {"complete": (label, None)}
    for share in SHARES:
        targets[f"{share:.0%} annotated"] = label.masked_fill(torch.rand(label.shape) >= share, 255), None
    targets["without a class"] = label, partial
    print(f"{plan.batch} patches of {plan.patch}, {classes} classes")
    for spec in parse_losses(options.losses):
        loss = build_loss(spec, voxels)

        def step(target: torch.Tensor, kept: list[Kept] | None, loss: torch.nn.Module = loss) -> float:
            started = time.thread_time()
            logits = network(image)
            value = (
                loss(logits, target) if target is label and kept is None else loss_on_known(loss, logits, target, kept)
            )
            value.backward()
            return time.thread_time() - started

        times = np.empty((options.rounds + 1, len(targets)))
        for row in times:  # in a random order, so that no target profits from the step before
            for index in random.permutation(len(targets)):
                row[index] = step(*list(targets.values())[index])
        times = times[1:]
        ratios = 100 * (np.median(times / times[:, :1], axis=0) - 1)
        costs = ", ".join(f"{name} {ratio:+.1f} %" for name, ratio in list(zip(targets, ratios, strict=True))[1:])
        print(f"{spec.label}: {1000 * np.median(times[:, 0]):.0f} ms; {costs}", flush=True)


if __name__ == "__main__":
    main()
