"""Carrying out runs in processes of this machine, several at once."""

import math
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

import psutil

from pipeline.data.nifti_header import format_shape
from pipeline.data.planning import smaller_memory_gib
from pipeline.errors import TrainingError, is_out_of_memory
from pipeline.records.folder import RunFolder, RunKey
from pipeline.study.workers import Workers, on_a_gpu, tell
from pipeline.training.run import run
from pipeline.training.settings import RunSettings

DIED = "a worker process died, most likely for want of memory"


def run_locally(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    jobs: int,
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
    say: Callable[[str], None] = lambda text: None,
    workers: Workers | None = None,
    share: bool = False,
) -> None:
    """Carry out the runs in `jobs` processes, in order; progress is reported as (run, stage, parts done, parts in all).

    A run that is not `wanted` when its turn comes is left out. With `share` the last runs, where they are fewer than
    `jobs`, begin beside those that have just begun: all share the cores, and none of these is idle at the end. Where a
    worker process dies or has no memory left, a line is said and the runs go on from their last states, fewer at once.

    Raises
    ------
    TrainingError
        Where a run loses its process a second time with no other beside it. The same command continues.
    """
    alone: set[RunKey] = set()
    reported: set[RunKey] = set()

    def report(key: RunKey) -> None:
        reported.add(key)
        on_done(key)

    if workers is None:
        with Workers() as workers:
            return run_locally(runs, jobs, on_step, on_done, wanted, say, workers, share)
    while True:
        try:
            return _run_in_pool(runs, workers, jobs, on_step, report, wanted, share)
        except _Lost as lost:
            names = ", ".join(key.short_name for key in lost.keys) or "a run"
            if jobs == 1 and alone.intersection(lost.keys):
                plan = runs[0][0].plan
                raise TrainingError(
                    names,
                    f"{lost.why} twice",
                    f"free memory and call again, it continues; or begin another --out with "
                    f"--memory {smaller_memory_gib(plan):.2g}, which halves the patch of "
                    f"{format_shape(plan.patch)} voxels",
                ) from lost
            if jobs == 1:
                alone.update(lost.keys)
            jobs, share = max(1, jobs // 2), False
            for _, folder in runs:
                if folder.record.exists() and folder.key not in reported:
                    report(folder.key)
            say(f"{names}: {lost.why}; going on from the last state with {jobs} at once")


class _Lost(Exception):
    """Runs that were going when a worker process died or had no memory left."""

    def __init__(self, keys: Sequence[RunKey], why: str) -> None:
        self.keys, self.why = keys, why
        super().__init__(why)


def _run_in_pool(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    workers: Workers,
    jobs: int,
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool],
    share: bool,
) -> None:
    waiting = [(settings, folder) for settings, folder in runs if not folder.record.exists()]
    going: dict[Future[None], RunKey] = {}
    began: dict[RunKey, float] = {}
    took = math.inf  # the seconds of the run that ended last

    def worth_sharing() -> bool:
        soon = time.monotonic() - min(began[key] for key in going.values()) > took / 2
        return share and len(waiting) < jobs and not soon and _fits(len(waiting))

    with workers.pool(jobs) as pool:
        while waiting or going:
            while waiting and (len(going) < jobs or worth_sharing()):
                settings, folder = waiting.pop(0)
                if not wanted(folder.key):
                    continue
                try:
                    going[pool.submit(_run, settings, folder)] = folder.key
                except BrokenProcessPool as error:
                    raise _Lost([*going.values(), folder.key], DIED) from error
                began[folder.key] = time.monotonic()
            if not going:
                break
            finished, _ = wait(going, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(workers.messages, on_step)
            for future in finished:
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise _Lost(list(going.values()), DIED) from error
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise _Lost([going[future]], "had no memory left") from error
                key = going.pop(future)
                took = time.monotonic() - began[key]
                on_done(key)


def _fits(runs: int) -> bool:
    """Whether free memory holds so many runs more, twice as large as the largest process is now."""
    largest = 0
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            largest = max(largest, process.memory_info().rss)
    return bool(psutil.virtual_memory().available >= 2 * runs * largest)


def run_here(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
) -> None:
    """Carry out the runs in this process, as `run_locally` does in others."""
    for settings, folder in runs:
        if wanted(folder.key):
            run(settings, folder, lambda stage, done, of, key=folder.key: on_step(key, stage, done, of))  # type: ignore[misc]
            on_done(folder.key)


def _drain(messages: Any, on_step: Callable[[RunKey, str, int, int], None]) -> None:
    while True:
        try:
            on_step(*messages.get_nowait())
        except queue.Empty:
            return


def _run(settings: RunSettings, folder: RunFolder) -> None:
    def on_step(stage: str, done: int, of: int) -> None:
        if done % 5 == 0 or done == of:
            tell((folder.key, stage, done, of))

    on_a_gpu(run, settings, folder, on_step)
