"""How runs share this machine: device, runs at once, threads, precision and the time of a step, by measurement."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from pipeline.data.plan import Plan
from pipeline.errors import is_out_of_memory
from pipeline.network.precision import Precision
from pipeline.study.gpus import visible_gpus
from pipeline.study.workers import Workers, on_a_gpu

RUNS_A_GPU = (1, 2, 4)
WORTHWHILE_GAIN = 1.1
"""How many times the steps a second more runs on a GPU must make to be begun at once."""

TRIAL_STEPS = {"cpu": 6, "cuda": 40}
TRIAL_WARM_UP = 1
"""Steps that are not counted."""

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

    @property
    def seconds_a_run_step(self) -> float:
        """Seconds that a step of one run costs, when as many are made at once."""
        return self.step_seconds / self.jobs


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
        return Machine(device, 1, 1, *trial(plan, classes, 1, device, precision))
    if workers is None:
        with Workers() as workers:
            return measure_machine(plan, classes, runs, jobs=jobs, precision=precision, workers=workers)
    counts = at_once(runs, jobs)

    def threads_of(jobs: int) -> int:
        return max(1, cores // jobs)

    def timed(jobs: int) -> list[Trial]:
        with workers.pool(max(counts)) as pool:
            return trials(pool, partial(trial, plan, classes, threads_of(jobs), device, precision), jobs)

    jobs, results = most_steps(counts, timed)
    chosen, reason, _ = results[0]
    if any(result[0] != chosen for result in results):
        chosen, reason = "float32", "trial processes disagreed on bfloat16"
    return Machine(device, jobs, threads_of(jobs), chosen, reason, max(result[2] for result in results))


def at_once(runs: int, jobs: int | None) -> list[int]:
    """Return how many runs at once are worth a trial, growing; `jobs` is the user's word."""
    cores, gpus = available_cores(), visible_gpus()
    if jobs:
        return [jobs]
    shares = [gpus * share for share in RUNS_A_GPU] if gpus else [cores]
    return sorted({max(1, min(share, runs, cores)) for share in shares})


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


def trials(pool: Executor, task: Callable[[], Trial], jobs: int) -> list[Trial]:
    """Return what the task gives in as many processes of a pool at once."""
    return [future.result() for future in [pool.submit(on_a_gpu, task) for _ in range(jobs)]]


def trial(plan: Plan, classes: int, threads: int, device: str, precision: Precision | None) -> Trial:
    """Return precision, reason and seconds of a whole training step, feed and augmentation included."""
    import torch

    from pipeline.losses import LossSpec, build_loss
    from pipeline.network.architecture import build_network
    from pipeline.network.precision import choose_precision
    from pipeline.training.patch_sampling import NoiseSampler
    from pipeline.training.state import Training
    from pipeline.training.trainer import train

    torch.set_num_threads(threads)
    where = torch.device(device)
    channels = len(plan.normalisation)
    network = build_network(plan, channels, classes, 0, 0).to(where)
    reason = "asked for"
    if precision is None:
        precision, reason = choose_precision(network, plan.patch, plan.batch, channels, where)
    loss = build_loss(LossSpec("ce"), (1,) * classes)
    steps = TRIAL_STEPS[device]
    training = Training(network, loss, NoiseSampler((), plan, 0, 0), 1e-6, steps, precision, where)
    marks = [time.perf_counter()]
    train(training, interval=steps, on_step=lambda step: marks.append(time.perf_counter()))
    times = [after - before for before, after in pairwise(marks)]
    return precision, reason, statistics.median(times[TRIAL_WARM_UP:])
