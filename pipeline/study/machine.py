"""How runs share this machine: device, runs at once, threads, precision and the time of a step, by measurement."""

import os
import time
from dataclasses import dataclass

from pipeline.data.plan import Plan
from pipeline.processes import worker_pool
from pipeline.training.precision import Precision


@dataclass(frozen=True, slots=True)
class Machine:
    """What all runs of a study have in common; stored with the study so that a continued study computes alike."""

    device: str
    jobs: int
    threads: int
    precision: Precision
    precision_reason: str
    step_seconds: float


def available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def measure_machine(
    plan: Plan, classes: int, runs: int, *, jobs: int | None, precision: Precision | None, here: bool = False
) -> Machine:
    """Time training steps in as many processes at once as runs will use, and choose the precision.

    On a CPU runs share the cores, one thread each where there are runs enough: small 3D networks gain little from a
    second thread (`benchmarks/` measures it). On a GPU one run at a time. `here` times one run in this process.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = available_cores()
    if here:
        return Machine(device, 1, 1, *_trial(plan, classes, 1, device, precision))
    jobs = jobs or (1 if device == "cuda" else max(1, min(cores, runs)))
    threads = max(1, cores // jobs)
    with worker_pool(jobs) as pool:
        trials = [pool.submit(_trial, plan, classes, threads, device, precision) for _ in range(jobs)]
        results = [trial.result() for trial in trials]
    chosen, reason, _ = results[0]
    if any(result[0] != chosen for result in results):
        chosen, reason = "float32", "trial processes disagreed on bfloat16"
    return Machine(device, jobs, threads, chosen, reason, max(result[2] for result in results))


def _trial(
    plan: Plan, classes: int, threads: int, device: str, precision: Precision | None
) -> tuple[Precision, str, float]:
    """Return precision, reason and seconds of a whole training step, feed and augmentation included."""
    import torch

    from pipeline.training.augmentation import Augmentation
    from pipeline.training.network import build_network
    from pipeline.training.precision import autocast, choose_precision

    torch.set_num_threads(threads)
    where = torch.device(device)
    in_channels = len(plan.normalisation)
    network = build_network(plan, in_channels, classes, 0, 0).to(where)
    reason = "asked for"
    if precision is None:
        precision, reason = choose_precision(network, plan.patch, plan.batch, in_channels, where)
    optimizer = torch.optim.AdamW(network.parameters(), 0.0)
    augmentation = Augmentation(plan, 0, 0)
    crop = [int(edge * 1.25) for edge in plan.patch]
    image = torch.rand((plan.batch, in_channels, *crop)).to(where)
    label = torch.zeros((plan.batch, 1, *crop)).to(where)
    times = []
    for step in range(6):
        start = time.perf_counter()
        patch, target = augmentation(image, label, step * plan.batch)
        with autocast(precision, where):
            logits = network(patch)
        loss = torch.nn.functional.cross_entropy(logits.float(), target[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return precision, reason, sorted(times[1:])[2]
