"""A batch on a Ray cluster: workers process a few cases at a time, and those of a lost worker are tried again.

Each worker loads the model once. Only the driver writes the journal, the manifest and the page.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BundleError, ConfigError, DatasetError
from pipeline.inference.batch import Batch
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.case_steps import CaseSteps
from pipeline.inference.image_logs import silence_image_logs
from pipeline.inference.journal import RecordedCases
from pipeline.inference.options import Options
from pipeline.inference.output_folder import OutputFolder
from pipeline.inference.overlap import run_overlapped
from pipeline.inference.sources import Job
from pipeline.system.ray_cluster import MAX_ATTEMPTS, FailureCause, Nodes, failure_cause, original_error

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

MAXIMUM_CASES = 8
"""Cases that a worker is given at once; they are all started again if it is lost."""

CASE_TRIES = 2
"""Workers that may be lost with a case alone before the case fails."""

CORES = 2
POLL_S = 0.5

OVERVIEW_SHARE = 0.05
"""Part of the driver's time that manifest and page may take."""


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """Resources of one worker, and the number of workers.

    Parameters
    ----------
    cores, gpus
        CPU cores and GPUs of one worker.
    maximum_workers
        Upper limit; None: as many as the cluster has room for.
    """

    cores: int = CORES
    gpus: int = 0
    maximum_workers: int | None = None


@dataclass(slots=True)
class _CaseGroup:
    """Cases that are given to one worker together, and how many workers were lost with this group."""

    jobs: list[Job]
    losses: int = 0


class RayBatch(Batch):
    """Predictions into one output folder, whose lock the caller holds and which all nodes see.

    If a worker or a node is lost, its cases are tried again, each on its own. A case fails if `CASE_TRIES` workers are
    lost while they process it alone; the other cases continue.

    Parameters
    ----------
    ray
        The module, connected to a cluster.
    model
        The model as loaded by the driver.
    load
        Loads the model in a worker; it must have the hash of `model`.
    out
        The output folder.
    options
        Options that apply to every case.
    resources
        Resources of the workers.
    """

    def __init__(
        self,
        ray: Any,
        model: "Model",
        load: Callable[[], "Model"],
        out: Path,
        options: Options,
        resources: WorkerResources = WorkerResources(),
    ) -> None:
        super().__init__(model, out, options)
        self.ray, self.resources = ray, resources
        self._arguments = (load, model.sha256, out, options, resources.cores, os.getcwd())
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, _CaseGroup]] = {}
        self._losses_at_start = 0

    def write_overview(self, finished: str | None) -> None:
        """Write manifest and page, and postpone the next version so that `OVERVIEW_SHARE` is not exceeded.

        Many workers complete many cases, and both files list all of them.
        """
        start = time.monotonic()
        super().write_overview(finished)
        self._written_at += (time.monotonic() - start) / OVERVIEW_SHARE

    def _process(
        self, jobs: Sequence[Job], on_record: Callable[[CaseRecord], None], should_stop: Callable[[], bool]
    ) -> None:
        size = min(MAXIMUM_CASES, max(1, len(jobs) // (4 * self._maximum_workers())))
        waiting = deque(_CaseGroup(list(jobs[start : start + size])) for start in range(0, len(jobs), size))
        while waiting or self._running:
            if should_stop():
                waiting.clear()
            self._start_workers(len(waiting))
            while waiting and self._idle:
                worker, group = self._idle.pop(), waiting.popleft()
                earlier = [self.journal.records[job.id] for job in group.jobs if job.id in self.journal.records]
                self._running[worker.predict.remote(group.jobs, earlier)] = (worker, group)
            if not (waiting or self._running):
                break
            for reference in self.ray.wait([*self._running, *self._starting], timeout=POLL_S)[0]:
                if reference in self._starting:
                    self._on_started(reference)
                else:
                    for record in self._on_ended(reference, waiting):
                        on_record(record)

    def _maximum_workers(self) -> int:
        places = Nodes.alive(self.ray).capacity(self.resources.cores, self.resources.gpus)
        return max(1, min(places, self.resources.maximum_workers or places))

    def _start_workers(self, waiting: int) -> None:
        """Start as many workers as the cluster has room for now, but no more than there are groups of cases."""
        present = len(self._idle) + len(self._starting) + len(self._running)
        missing = min(self._maximum_workers() - present, waiting - len(self._idle) - len(self._starting))
        for _ in range(max(0, missing)):
            # Ray must not restart a worker: the driver decides which of its cases are tried again.
            options = {"num_cpus": self.resources.cores, "num_gpus": self.resources.gpus, "max_restarts": 0}
            worker = self.ray.remote(_Worker).options(**options).remote(*self._arguments)
            self._starting[worker.load.remote()] = worker

    def _on_started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            self.ray.get(reference)
        except Exception as error:
            if failure_cause(self.ray, error) is None:
                raise original_error(self.ray, error) from error
            self._losses_at_start += 1
            if self._losses_at_start == MAX_ATTEMPTS:
                problem = f"lost {MAX_ATTEMPTS} workers in succession while they loaded the model"
                raise ConfigError("--executor ray", problem, "check the memory of the nodes") from error
            return
        self._losses_at_start = 0
        self._idle.append(worker)

    def _on_ended(self, reference: Any, waiting: deque[_CaseGroup]) -> list[CaseRecord]:
        """Return the records of the cases that a worker has processed; if it was lost, its cases wait again."""
        worker, group = self._running.pop(reference)
        try:
            records: list[CaseRecord] = self.ray.get(reference)
        except Exception as error:
            loss = failure_cause(self.ray, error)
            if loss is None:
                raise original_error(self.ray, error) from error
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(worker)
            return self._retry(group, loss, waiting)
        self._idle.append(worker)
        return records

    def _retry(self, group: _CaseGroup, loss: FailureCause, waiting: deque[_CaseGroup]) -> list[CaseRecord]:
        """Let the cases of a lost worker wait again, each on its own; return the record of a case that fails."""
        if len(group.jobs) > 1:
            waiting.extendleft(_CaseGroup([job]) for job in reversed(group.jobs))
            return []
        group.losses += 1
        if group.losses < CASE_TRIES:
            waiting.append(group)
            return []
        (job,) = group.jobs
        problem = f"ended its worker {CASE_TRIES} times, most likely because memory ran out"
        lost_worker = DatasetError(job.id, problem, "crop it, or provide more memory")
        return [self.steps.failed(job, MemoryError() if loss == "memory" else lost_worker)]


class _Worker:
    """A process that holds the model and takes cases from reading to writing; it writes no journal."""

    def __init__(
        self, load: Callable[[], "Model"], sha256: str, out: Path, options: Options, threads: int, folder: str
    ) -> None:
        with suppress(OSError):  # paths may be relative to the driver's folder, which a node may not have
            os.chdir(folder)
        self._load, self._sha256, self._threads = load, sha256, threads
        self._out, self._options = OutputFolder(out), options

    def load(self) -> None:
        """Load the model. A separate call tells errors of the bundle from the loss of a worker."""
        import torch

        torch.set_num_threads(self._threads)
        silence_image_logs()
        self._model = self._load()
        if self._model.sha256 != self._sha256:
            problem = "differs between this node and the driver"
            raise BundleError(self._model.name, problem, "give all nodes the same files")

    def predict(self, jobs: Sequence[Job], earlier: Sequence[CaseRecord]) -> list[CaseRecord]:
        """Return the record of every case; `earlier` are the driver's records of these cases."""
        steps = CaseSteps(self._model, self._out, self._options, RecordedCases(self._out.root, earlier))
        records: list[CaseRecord] = []
        run_overlapped(steps, jobs, records.append)
        return records
