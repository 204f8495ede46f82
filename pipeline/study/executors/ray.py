"""Executor on a Ray cluster: runs are Ray tasks, on one machine or on many that share the folder of the study.

A run whose worker or node was lost is given to another worker (`_Cluster._retry_elsewhere`); one that ran out of
memory is tried once more, alone on the largest node (`_Cluster._retry_alone`).
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import ConfigError, TrainingError
from pipeline.records.folder import RunFolder, RunKey
from pipeline.study.executors.executor import RunMonitor, ScheduledRun
from pipeline.system.folder_lock import FolderInUse
from pipeline.system.ray_cluster import (
    MAX_ATTEMPTS,
    Nodes,
    ProgressActor,
    check_nodes,
    failure_cause,
    original_error,
    ray_connection,
    start_actor_on_this_node,
)

POLL_S = 0.5

UNLOCKED_WITHIN_S = 120.0
"""How long a run waits for the lock of its folder, in seconds.

A worker that counts as lost may live on for a moment, and an NFS server releases the locks of a node that is gone only
after its lease, by default 90 seconds.
"""

VISIBLE_WITHIN_S = 90.0
"""How long a record may take to appear on this node, in seconds: NFS caches for a minute that a file is absent."""

Task = Callable[[ScheduledRun, Any, str], None]
"""Task of a worker: run, progress actor, and working directory of the command."""


class RayExecutor:
    """Carry out runs as Ray tasks.

    A run reserves as many cores as it has threads, and one GPU if the study computes on one.

    Parameters
    ----------
    jobs
        Runs at once on this machine if `address` is None; a cluster carries out as many as it has room for.
    address
        Address of a cluster, for example ``auto`` or ``ray://host:10001``. The dataset, the cache and the study must
        have the same paths on every node (a shared file system).
    task
        Task of a worker, by default `run_in_task`.
    """

    def __init__(self, jobs: int, address: str | None = None, task: Task | None = None) -> None:
        self.jobs, self.address, self.task = jobs, address, task or run_in_task

    def execute(self, runs: Sequence[ScheduledRun], monitor: RunMonitor) -> None:
        """Carry out the runs; see `pipeline.study.executors.executor.Executor`.

        Raises
        ------
        ConfigError
            If Ray is not installed, the cluster does not answer, or a node does not see the shared files.
        TrainingError
            If a run lost four workers, or ran out of memory alone on a node. The same command continues the study.
        """
        if not runs:
            return
        with ray_connection(self.address, self.jobs * runs[0].trainer.threads) as ray:
            for note in check_nodes(ray, _shared_paths(runs)):
                monitor.message(note)
            _Cluster(ray, None if self.address else self.jobs, self.task, monitor).execute(runs)


@dataclass(slots=True)
class _Attempt:
    """A run that waits or is active: how many workers it lost, and whether it needs a node alone for lack of memory."""

    scheduled: ScheduledRun
    lost_workers: int = 0
    alone: bool = False

    @property
    def key(self) -> RunKey:
        return self.scheduled.key

    @property
    def gpus(self) -> int:
        return int(self.scheduled.trainer.device == "cuda")


class _Cluster:
    """Waiting and active runs of one call."""

    def __init__(self, ray: ModuleType, jobs: int | None, task: Task, monitor: RunMonitor) -> None:
        self.ray: Any = ray
        self.jobs, self.monitor = jobs, monitor
        # The actor holds no result, so that it may be restarted as often as its process dies.
        self.progress = start_actor_on_this_node(ray, ProgressActor, max_restarts=-1)
        self.task = self.ray.remote(task)
        self.waiting: deque[_Attempt] = deque()
        self.active: dict[Any, _Attempt] = {}
        self.lack_of_room_reported = False

    def execute(self, runs: Sequence[ScheduledRun]) -> None:
        self.waiting.extend(_Attempt(scheduled) for scheduled in runs)
        try:
            while self.waiting or self.active:
                self._submit()
                if not self.active:
                    break
                finished, _ = self.ray.wait(list(self.active), timeout=POLL_S)
                for step in self._steps():
                    self.monitor.run_step(*step)
                for reference in finished:
                    attempt = self.active.pop(reference)
                    if self._is_complete(reference, attempt):
                        self.monitor.run_finished(attempt.key)
        finally:
            for reference in self.active:
                with suppress(self.ray.exceptions.RayError):
                    self.ray.cancel(reference, force=True)

    def _submit(self) -> None:
        """Submit as many runs as the cluster has room for; those that need a node alone come last."""
        nodes = Nodes.alive(self.ray)
        while self.waiting:
            attempt = self.waiting[0]
            if attempt.alone and not all(other.alone for other in self.active.values()):
                return
            cores = attempt.scheduled.trainer.threads
            if attempt.alone:  # All cores of the largest node keep every other task away from it.
                cores = max(cores, nodes.most_cores(attempt.gpus))
            places = nodes.capacity(cores, attempt.gpus)
            self._report_lack_of_room(places, cores, attempt.gpus)
            if len(self.active) >= max(1, min(places, self.jobs or places)):
                return
            self.waiting.popleft()
            if self.monitor.is_needed(attempt.key):
                # Ray's own retries are off: they would not tell lack of memory from a lost node.
                task = self.task.options(num_cpus=cores, num_gpus=attempt.gpus, max_retries=0)
                reference = task.remote(_with_absolute_folder(attempt.scheduled), self.progress, os.getcwd())
                self.active[reference] = attempt

    def _report_lack_of_room(self, places: int, cores: int, gpus: int) -> None:
        if places == 0 and not self.lack_of_room_reported:
            needs = f"{cores} core(s)" + (" and a GPU" if gpus else "")
            self.monitor.message(f"no node of the cluster has {needs}, which each run of this study needs; waiting")
        self.lack_of_room_reported = places == 0

    def _steps(self) -> Iterator[tuple[RunKey, str, int, int]]:
        try:
            latest: dict[RunKey, tuple[str, int, int]] = self.ray.get(self.progress.fetch.remote())
        except self.ray.exceptions.RayError:  # Progress is only displayed; the runs do not depend on it.
            return
        for key, step in latest.items():
            yield (key, *step)

    def _is_complete(self, reference: Any, attempt: _Attempt) -> bool:
        """Return whether a run has its record. A lost run waits again; one that was lost too often raises."""
        try:
            self.ray.get(reference)
        except Exception as error:
            reason = failure_cause(self.ray, error)
            if reason is None:
                raise original_error(self.ray, error) from error
            if reason == "memory":
                self._retry_alone(attempt, error)
            else:
                self._retry_elsewhere(attempt, error)
            return False
        _wait_until_visible(attempt.scheduled.folder)
        return True

    def _retry_elsewhere(self, attempt: _Attempt, error: Exception) -> None:
        attempt.lost_workers += 1
        if attempt.lost_workers == MAX_ATTEMPTS:
            raise TrainingError(
                attempt.key.short_name,
                f"lost its worker {MAX_ATTEMPTS} times",
                "repeat the command, which continues the study",
            ) from error
        self.monitor.message(
            f"{attempt.key.short_name}: its worker or node was lost; continuing from the last checkpoint on another"
        )
        self.waiting.appendleft(attempt)

    def _retry_alone(self, attempt: _Attempt, error: Exception) -> None:
        if attempt.alone:
            raise TrainingError(
                attempt.key.short_name,
                "ran out of memory twice, the second time alone on a node",
                f"use nodes with more memory and repeat the command, which continues the study; "
                f"or {attempt.scheduled.trainer.memory_advice}",
            ) from error
        self.monitor.message(f"{attempt.key.short_name}: ran out of memory; it is retried at the end, alone on a node")
        attempt.alone = True
        self.waiting.append(attempt)


def _with_absolute_folder(scheduled: ScheduledRun) -> ScheduledRun:
    """Return the run with an absolute folder: a worker may have another working directory."""
    folder = RunFolder(scheduled.folder.root.absolute(), scheduled.key)
    return replace(scheduled, run=replace(scheduled.run, folder=folder))


def _shared_paths(runs: Sequence[ScheduledRun]) -> list[Path]:
    """Return paths that every node must see, taken from the first run: study, an original, and the trainer's own."""
    run, trainer = runs[0].run, runs[0].trainer
    originals = [path for case in run.held_out[:1] for path in case.images]
    return [path.absolute() for path in (run.folder.root.parents[2], *trainer.shared_paths, *originals)]


def _wait_until_visible(folder: RunFolder) -> None:
    end = time.monotonic() + VISIBLE_WITHIN_S
    while not folder.record.exists():
        if time.monotonic() > end:
            raise ConfigError(
                folder.record,
                "is not visible here, although a worker has written it",
                "use an --out on a file system that all nodes share",
            )
        time.sleep(POLL_S)


def run_in_task(scheduled: ScheduledRun, progress: Any, working_directory: str) -> None:
    """Carry out a run in a Ray worker; see `Task`. Wait for the lock of a worker that counts as lost but lives on."""
    # Paths of the dataset may be relative. A node without this folder has only absolute ones.
    with suppress(OSError):
        os.chdir(working_directory)
    last = 0.0

    def on_step(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > POLL_S or done == total:
            last = now
            progress.report.remote(scheduled.key, (stage, done, total))

    end = time.monotonic() + UNLOCKED_WITHIN_S
    while True:
        try:
            return scheduled.carry_out(on_step)
        except FolderInUse:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)
