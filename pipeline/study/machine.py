"""How the runs of a study share this machine: device, runs at once, threads, precision and the time of a step."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError, is_out_of_memory
from pipeline.network.precision import Precision
from pipeline.study.executors.gpu_sharing import visible_gpus
from pipeline.study.executors.reusable_pool import ReusablePool, on_least_used_gpu
from pipeline.training.recipe import Recipe

RUNS_PER_GPU = (1, 2, 4)

WORTHWHILE_GAIN = 1.1
"""More runs at once must make at least this times as many steps per second."""

TRIAL_STEPS = {"cpu": 6, "cuda": 40}

WARM_UP_STEPS = 1
"""First steps that are not counted: they also pay for allocations and the choice of convolution algorithms."""


class Trial(NamedTuple):
    """Timed training steps of one process."""

    precision: Precision
    precision_reason: str
    step_seconds: float


@dataclass(frozen=True, slots=True)
class Workload:
    """What a training step computes.

    Attributes
    ----------
    plan
        Preprocessing and network.
    classes
        Classes, the background among them.
    recipe
        Network, optimizer and schedule.
    """

    plan: Plan
    classes: int
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Machine:
    """What all runs of a study have in common; the record stores it, so that a continued study computes alike.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    jobs
        Runs at once.
    threads
        Threads of each run.
    precision, precision_reason
        Number format of the forward passes, and why it was chosen.
    step_seconds
        Time of one training step while `jobs` runs train at once, in seconds.
    """

    device: str
    jobs: int
    threads: int
    precision: Precision
    precision_reason: str
    step_seconds: float

    @property
    def seconds_per_run_step(self) -> float:
        """Seconds of the machine for each step of one run."""
        return self.step_seconds / self.jobs


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def measure_machine(
    work: Workload,
    runs: int,
    *,
    jobs: int | None,
    precision: Precision | None,
    pool: ReusablePool | None = None,
    in_process: bool = False,
) -> Machine:
    """Time training steps in as many processes at once as the study will use, and choose the precision.

    On a CPU the runs share the cores, one thread each if there are enough runs: small 3D networks gain little from a
    second thread (`benchmarks/training.py` measures it). Each GPU gets one, two or four runs, as many as pay off.

    Parameters
    ----------
    work
        The training steps.
    runs
        Runs of the study.
    jobs
        Runs at once; None to choose.
    precision
        Number format; None to choose.
    pool
        Processes to time in; None for processes that end with the call.
    in_process
        Time one run in this process instead.
    """
    cores, gpus = available_cores(), visible_gpus()
    device = "cuda" if gpus else "cpu"
    if in_process:
        return Machine(device, 1, 1, *time_steps(work, 1, device, precision))
    if pool is None:
        with ReusablePool() as pool:
            return measure_machine(work, runs, jobs=jobs, precision=precision, pool=pool)
    counts = job_counts(runs, jobs)

    def threads_of(jobs: int) -> int:
        return max(1, cores // jobs)

    def measure(jobs: int) -> list[Trial]:
        with pool.processes(max(counts)) as processes:
            return at_once(processes, partial(time_steps, work, threads_of(jobs), device, precision), jobs)

    jobs, trials = fastest_job_count(counts, measure)
    chosen, reason = trials[0].precision, trials[0].precision_reason
    if any(trial.precision != chosen for trial in trials):
        chosen, reason = "float32", "trial processes disagreed on bfloat16"
    return Machine(device, jobs, threads_of(jobs), chosen, reason, max(trial.step_seconds for trial in trials))


def job_counts(runs: int, jobs: int | None) -> list[int]:
    """Return the numbers of runs at once that are worth a trial, in ascending order.

    Parameters
    ----------
    runs
        Runs of the study.
    jobs
        Number requested by the user, None for no request.
    """
    cores, gpus = available_cores(), visible_gpus()
    if jobs:
        return [jobs]
    candidates = [gpus * per_gpu for per_gpu in RUNS_PER_GPU] if gpus else [cores]
    return sorted({max(1, min(candidate, runs, cores)) for candidate in candidates})


def fastest_job_count(counts: Sequence[int], measure: Callable[[int], list[Trial]]) -> tuple[int, list[Trial]]:
    """Return the last of ascending counts of runs at once that was a tenth faster than the one before, and its trials.

    Parameters
    ----------
    counts
        Runs at once, in ascending order, at least one.
    measure
        Returns a trial of each run. A count that does not fit in memory ends the search, unless it is the first.
    """
    best: tuple[int, list[Trial]] | None = None
    rate = 0.0
    for jobs in counts:
        try:
            trials = measure(jobs)
        except (MemoryError, RuntimeError) as error:
            if best is None or not is_out_of_memory(error):
                raise
            break
        steps_per_second = jobs / max(trial.step_seconds for trial in trials)
        if best is not None and steps_per_second < WORTHWHILE_GAIN * rate:
            break
        best, rate = (jobs, trials), steps_per_second
    assert best is not None, "no count was given"
    return best


def at_once(pool: Executor, task: Callable[[], Trial], jobs: int) -> list[Trial]:
    """Return the results of a task that `jobs` processes of a pool carry out at once."""
    return [future.result() for future in [pool.submit(on_least_used_gpu, task) for _ in range(jobs)]]


def time_steps(work: Workload, threads: int, device: str, precision: Precision | None) -> Trial:
    """Return the median time of whole training steps on random patches, with patch sampling and augmentation.

    Raises
    ------
    ConfigError
        If the network cannot be built, or a loss is not finite.
    """
    import torch

    from pipeline.losses import LossSpec
    from pipeline.network.architecture import build_network
    from pipeline.network.precision import choose_precision
    from pipeline.training.patch_sampling import NoiseSampler
    from pipeline.training.state import NonFiniteError, Training
    from pipeline.training.trainer import train

    torch.set_num_threads(threads)
    where, plan, recipe = torch.device(device), work.plan, work.recipe
    channels = len(plan.normalisation)

    def network() -> nn.Module:
        return build_network(plan, channels, work.classes, 0, 0, recipe.network).to(where)

    reason = "asked for"
    if precision is None:
        # A training begins with a network that has made no step: some keep tensors that cannot be copied.
        precision, reason = choose_precision(network(), plan.patch, plan.batch, channels, where)
    steps = TRIAL_STEPS[device]
    training = Training(
        network=recipe.supervised(network()),
        loss=recipe.build_loss(LossSpec("ce"), (1,) * work.classes),
        sampler=NoiseSampler((), plan, 0, 0, recipe.sampling, recipe.augmentation.for_classes(())),
        learning_rate=1e-6,
        steps=steps,
        precision=precision,
        device=where,
        optimizer_choice=recipe.optimizer,
        schedule_choice=recipe.schedule,
        weight_average=recipe.weight_average,
    )
    marks = [time.perf_counter()]
    try:
        train(training, interval=steps, on_step=lambda step: marks.append(time.perf_counter()))
    except NonFiniteError as error:
        remedy = "use --precision float32, or another network or optimizer"
        raise ConfigError("trial steps on this machine", f"{error} in {precision}", remedy) from error
    times = [after - before for before, after in pairwise(marks)]
    return Trial(precision, reason, statistics.median(times[WARM_UP_STEPS:]))
