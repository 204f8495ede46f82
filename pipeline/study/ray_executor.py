"""Carrying out runs as Ray tasks, on one machine or many that share the study's folder."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.nifti_header import format_shape
from pipeline.data.planning import smaller_memory_gib
from pipeline.errors import ConfigError, TrainingError
from pipeline.records.folder import RunFolder, RunKey
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
from pipeline.training.run import run
from pipeline.training.settings import RunSettings

POLL_S = 0.5
UNLOCKED_WITHIN_S = 120.0
"""How long a run waits for its folder: a worker that was lost may live on for a moment, and a file server drops the
locks of a node that is gone after a lease of (NFS) 90 seconds."""

VISIBLE_WITHIN_S = 90.0
"""How long a record may take to be seen here: NFS remembers for up to a minute that a file was not there."""

Run = tuple[RunSettings, RunFolder]
CarryOut = Callable[[RunSettings, RunKey, str, Any, str], None]


@dataclass(slots=True)
class _Work:
    """A run on its way: how often its worker was lost, and whether memory was short so that it needs a node alone."""

    settings: RunSettings
    folder: RunFolder
    lost: int = 0
    alone: bool = False

    @property
    def key(self) -> RunKey:
        return self.folder.key

    @property
    def gpus(self) -> int:
        return int(self.settings.device == "cuda")


def run_on_ray(
    runs: Sequence[Run],
    jobs: int,
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
    say: Callable[[str], None] = lambda text: None,
    *,
    address: str | None = None,
    carry_out: CarryOut | None = None,
) -> None:
    """Carry out the runs as Ray tasks, at most `jobs` at once where there is no cluster, else as many as it holds.

    A run takes as many cores as it has threads, and a GPU where the study computes on one. Where a worker or its node
    is lost, the run is given to another and continues from its last state; one that had no memory left is tried once
    more at the end, alone on the largest node.

    Parameters
    ----------
    runs, on_step, on_done, wanted, say
        As for `pipeline.study.executor.run_locally`.
    jobs
        Runs at once on this machine where `address` is None.
    address
        Of a cluster, e.g. ``auto`` or ``ray://host:10001``. The dataset, the cache and the study must lie at the same
        paths on every node (a shared file system).
    carry_out
        What a worker does with a run, by default `pipeline.training.run.run`.

    Raises
    ------
    ConfigError
        Where Ray is not installed, the cluster does not answer, or a node does not see what is shared.
    TrainingError
        Where a run was lost with each of four workers, or has no memory alone on a node. The same command continues.
    """
    if not runs:
        return
    with ray_connection(address, jobs * runs[0][0].threads) as ray:
        for note in check_nodes(ray, _shared(runs)):
            say(note)
        _Cluster(ray, None if address else jobs, carry_out or _carry_out, say).work(runs, on_step, on_done, wanted)


class _Cluster:
    """The runs that wait, and those that are going."""

    def __init__(self, ray: Any, jobs: int | None, carry_out: CarryOut, say: Callable[[str], None]) -> None:
        self.ray, self.jobs, self.say = ray, jobs, say
        self.progress = start_actor_on_this_node(ray, ProgressActor, max_restarts=-1)
        self.task = ray.remote(carry_out)
        self.waiting: deque[_Work] = deque()
        self.going: dict[Any, _Work] = {}
        self.told_of_no_place = False

    def work(
        self,
        runs: Sequence[Run],
        on_step: Callable[[RunKey, str, int, int], None],
        on_done: Callable[[RunKey], None],
        wanted: Callable[[RunKey], bool],
    ) -> None:
        self.waiting.extend(_Work(settings, folder) for settings, folder in runs)
        try:
            while self.waiting or self.going:
                self._begin(wanted)
                if not self.going:
                    break
                finished, _ = self.ray.wait(list(self.going), timeout=POLL_S)
                for step in self._steps():
                    on_step(*step)
                for reference in finished:
                    work = self.going.pop(reference)
                    if self._ended(reference, work):
                        on_done(work.key)
        finally:
            for reference in self.going:
                with suppress(self.ray.exceptions.RayError):
                    self.ray.cancel(reference, force=True)

    def _begin(self, wanted: Callable[[RunKey], bool]) -> None:
        """Give the cluster as many runs as it holds; those that need a node alone come last."""
        nodes = Nodes.alive(self.ray)
        while self.waiting:
            work = self.waiting[0]
            if work.alone and not all(other.alone for other in self.going.values()):
                return
            cores = max(work.settings.threads, nodes.most_cores(work.gpus)) if work.alone else work.settings.threads
            places = nodes.capacity(cores, work.gpus)
            self._tell_of_no_place(places, cores, work.gpus)
            if len(self.going) >= max(1, min(places, self.jobs or places)):
                return
            self.waiting.popleft()
            if wanted(work.key):
                task = self.task.options(num_cpus=cores, num_gpus=work.gpus, max_retries=0)
                root = str(work.folder.root.absolute())
                reference = task.remote(work.settings, work.key, root, self.progress, os.getcwd())
                self.going[reference] = work

    def _tell_of_no_place(self, places: int, cores: int, gpus: int) -> None:
        if places == 0 and not self.told_of_no_place:
            needs = f"{cores} core(s)" + (" and a GPU" if gpus else "")
            self.say(f"no node of the cluster has {needs}, which each run of this study takes; waiting for one")
        self.told_of_no_place = places == 0

    def _steps(self) -> list[tuple[RunKey, str, int, int]]:
        try:
            found: dict[RunKey, tuple[str, int, int]] = self.ray.get(self.progress.fetch.remote())
        except self.ray.exceptions.RayError:  # shown only: the work goes on
            return []
        return [(key, *how) for key, how in found.items()]

    def _ended(self, reference: Any, work: _Work) -> bool:
        """Whether a run is done; one that was lost waits again, and is an error once it was lost too often."""
        try:
            self.ray.get(reference)
        except Exception as error:
            why = failure_cause(self.ray, error)
            if why is None:
                raise original_error(self.ray, error) from error
            if why == "memory":
                self._no_memory(work, error)
            else:
                self._lost(work, error)
            return False
        _wait_until_visible(work.folder)
        return True

    def _lost(self, work: _Work, error: Exception) -> None:
        work.lost += 1
        if work.lost == MAX_ATTEMPTS:
            raise TrainingError(
                work.key.short_name, f"was lost with its worker {MAX_ATTEMPTS} times", "call again; it continues"
            ) from error
        self.say(f"{work.key.short_name}: its worker or node was lost; it continues from its last state on another")
        self.waiting.appendleft(work)

    def _no_memory(self, work: _Work, error: Exception) -> None:
        if work.alone:
            plan = work.settings.plan
            raise TrainingError(
                work.key.short_name,
                "had no memory left twice, the second time alone on a node",
                f"give nodes with more memory and call again, it continues; or begin another --out with "
                f"--memory {smaller_memory_gib(plan):.2g}, which halves the patch of {format_shape(plan.patch)} voxels",
            ) from error
        self.say(f"{work.key.short_name}: had no memory left; it is tried again at the end, alone on a node")
        work.alone = True
        self.waiting.append(work)


def _shared(runs: Sequence[Run]) -> list[Path]:
    """Return what every node has to see, by the first run: its study, a prepared case and an original."""
    settings, folder = runs[0]
    cases = [case.folder for case in settings.training[:1]]
    originals = [path for case in list(settings.originals.values())[:1] for path in case.images]
    return [path.absolute() for path in (folder.root.parents[2], *cases, *originals)]


def _wait_until_visible(folder: RunFolder) -> None:
    end = time.monotonic() + VISIBLE_WITHIN_S
    while not folder.record.exists():
        if time.monotonic() > end:
            raise ConfigError(
                folder.record,
                "is not seen here, though a worker says that it wrote it",
                "give an --out on a file system that all nodes share",
            )
        time.sleep(POLL_S)


def _carry_out(settings: RunSettings, key: RunKey, root: str, progress: Any, at: str) -> None:
    with suppress(OSError):  # paths of the dataset may be relative; a node without this folder knows none such
        os.chdir(at)
    last = 0.0

    def on_step(stage: str, done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > POLL_S or done == of:
            last = now
            progress.report.remote(key, (stage, done, of))

    end = time.monotonic() + UNLOCKED_WITHIN_S
    while True:
        try:
            return run(settings, RunFolder(Path(root), key), on_step)
        except FolderInUse:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)
