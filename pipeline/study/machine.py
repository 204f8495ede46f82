"""How runs share this machine: device, runs at once, threads, precision and the time of a step, by measurement."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.data.plan import Plan
from pipeline.errors import is_out_of_memory
from pipeline.study.gpus import visible_gpus
from pipeline.study.workers import Workers
from pipeline.training.precision import Precision

RUNS_A_GPU = (1, 2, 4)
WORTHWHILE_GAIN = 1.1
"""How many times the steps a second more runs on a GPU must make to be begun at once."""

Trial = tuple[Precision, str, float]
"""Precision, the reason for it, and seconds of a step."""


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
    plan: Plan,
    classes: int,
    runs: int,
    *,
    jobs: int | None,
    precision: Precision | None,
    workers: Workers | None = None,
    here: bool = False,
) -> Machine:
    """Time training steps in as many processes at once as runs will use, and choose the precision.

    On a CPU runs share the cores, one thread each where there are runs enough: small 3D networks gain little from a
    second thread (`benchmarks/` measures it). Of each GPU one, two or four runs, as many as are worth it, where `jobs`
    does not say. `here` times one run in this process.
    """
    cores, gpus = available_cores(), visible_gpus()
    device = "cuda" if gpus else "cpu"
    if here:
        return Machine(device, 1, 1, *_trial(plan, classes, 1, device, precision))
    if workers is None:
        with Workers() as workers:
            return measure_machine(plan, classes, runs, jobs=jobs, precision=precision, workers=workers)
    if jobs:
        counts = [jobs]
    elif gpus:
        counts = sorted({max(1, min(len(gpus) * share, runs, cores)) for share in RUNS_A_GPU})
    else:
        counts = [max(1, min(cores, runs))]

    def threads_of(jobs: int) -> int:
        return max(1, cores // jobs)

    def timed(jobs: int) -> list[Trial]:
        with workers.pool(jobs) as pool:
            trials = [pool.submit(_trial, plan, classes, threads_of(jobs), device, precision) for _ in range(jobs)]
            return [trial.result() for trial in trials]

    jobs, results = most_steps(counts, timed)
    chosen, reason, _ = results[0]
    if any(result[0] != chosen for result in results):
        chosen, reason = "float32", "trial processes disagreed on bfloat16"
    return Machine(device, jobs, threads_of(jobs), chosen, reason, max(result[2] for result in results))


def most_steps(counts: Sequence[int], timed: Callable[[int], list[Trial]]) -> tuple[int, list[Trial]]:
    """Return of growing counts of runs at once the last that was a tenth faster than the one before, with its trials.

    `timed` returns a trial of each run. A count that the memory does not hold is the end, unless it is the first.
    """
    best: tuple[int, list[Trial]] | None = None
    rate = 0.0
    for jobs in counts:
        try:
            results = timed(jobs)
        except (MemoryError, RuntimeError) as error:
            if best is None or not is_out_of_memory(error):
                raise
            break
        steps_a_second = jobs / max(result[2] for result in results)
        if best is not None and steps_a_second < WORTHWHILE_GAIN * rate:
            break
        best, rate = (jobs, results), steps_a_second
    assert best is not None, "no count was given"
    return best


def _trial(plan: Plan, classes: int, threads: int, device: str, precision: Precision | None) -> Trial:
    """Return precision, reason and seconds of a whole training step, feed and augmentation included."""
    import torch

    from pipeline.training.augmentation import Augmentation
    from pipeline.training.inference import training_inferer
    from pipeline.training.network import build_network
    from pipeline.training.optimizer import MuonAdamW
    from pipeline.training.precision import choose_precision

    torch.set_num_threads(threads)
    where = torch.device(device)
    in_channels = len(plan.normalisation)
    network = build_network(plan, in_channels, classes, 0, 0).to(where)
    reason = "asked for"
    if precision is None:
        precision, reason = choose_precision(network, plan.patch, plan.batch, in_channels, where)
    infer = training_inferer(precision, where)
    optimizer = MuonAdamW(network.parameters(), 0.0)
    augmentation = Augmentation(plan, 0, 0)
    crop = [int(edge * 1.25) for edge in plan.patch]
    image = torch.rand((plan.batch, in_channels, *crop)).to(where)
    label = torch.zeros((plan.batch, 1, *crop)).to(where)
    times = []
    for step in range(6):
        start = time.perf_counter()
        patch, target = augmentation(image, label, step * plan.batch)
        loss = torch.nn.functional.cross_entropy(infer(patch, network), target[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return precision, reason, sorted(times[1:])[2]
