"""The batch on Ray: workers that load the model once take a few cases at a time; the driver alone keeps the journal."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BundleError, ConfigError, DatasetError
from pipeline.inference.batch import Batch, Options, settings_of
from pipeline.inference.journal import CaseRecord, Journal
from pipeline.inference.sources import Job
from pipeline.system.ray_cluster import MAX_ATTEMPTS, FailureCause, Nodes, failure_cause, original_error

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

AT_A_TIME = 8
"""Cases that a worker is given at most: so many are begun again where it is lost."""

CASE_TRIES = 2
"""How often a case is tried alone on a worker before it is the case that is at fault."""

CORES = 2
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker takes of its node, and how many there are at most (None: as many as the cluster holds)."""

    cores: int = CORES
    gpus: int = 0
    most: int | None = None


@dataclass(slots=True)
class _Cases:
    """Cases that are given to one worker together, and how often a worker was lost with them alone."""

    jobs: list[Job]
    lost: int = 0


class RayBatch(Batch):
    """Predictions into one output folder, which the caller holds the lock of and all nodes see.

    The cases of a worker or node that is lost are tried again, each on its own. A case whose worker is lost again and
    again has failed; the others go on.

    Parameters
    ----------
    ray
        The module, connected to a cluster.
    model
        As loaded here; workers load theirs by `load`, which must have the same hash.
    """

    def __init__(
        self, ray: Any, model: "Model", load: Callable[[], "Model"], out: Path, options: Options, share: Share = Share()
    ) -> None:
        super().__init__(model, out, options)
        self.ray, self.share = ray, share
        self._arguments = (load, model.sha256, out, options, share.cores, os.getcwd())
        self._free: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._going: dict[Any, tuple[Any, _Cases]] = {}
        self._lost_at_start = 0

    def write_overview(self, finished: str | None) -> None:
        """Write manifest and page, and again no sooner than a twentieth of the time goes into it.

        Many workers finish many cases, and both files hold all of them.
        """
        start = time.monotonic()
        super().write_overview(finished)
        self._written_at += 20 * (time.monotonic() - start)

    def _overlapped(
        self, jobs: Sequence[Job], finished: Callable[[CaseRecord], None], stop: Callable[[], bool]
    ) -> None:
        size = min(AT_A_TIME, max(1, len(jobs) // (4 * self._places())))
        waiting = deque(_Cases(list(jobs[start : start + size])) for start in range(0, len(jobs), size))
        while waiting or self._going:
            if stop():
                waiting.clear()
            self._start_workers(len(waiting))
            while waiting and self._free:
                worker, cases = self._free.pop(), waiting.popleft()
                earlier = {job.id: self.journal.records[job.id] for job in cases.jobs if job.id in self.journal.records}
                self._going[worker.predict.remote(cases.jobs, earlier)] = (worker, cases)
            if not (waiting or self._going):
                break
            for reference in self.ray.wait([*self._going, *self._starting], timeout=POLL_S)[0]:
                if reference in self._starting:
                    self._started(reference)
                else:
                    for record in self._ended(reference, waiting):
                        finished(record)

    def _places(self) -> int:
        places = Nodes.alive(self.ray).capacity(self.share.cores, self.share.gpus)
        return max(1, min(places, self.share.most or places))

    def _start_workers(self, waiting: int) -> None:
        """Start as many workers as the cluster holds now, but no more than there are cases for."""
        have = len(self._free) + len(self._starting) + len(self._going)
        wanted = min(self._places() - have, waiting - len(self._free) - len(self._starting))
        for _ in range(max(0, wanted)):
            options = {"num_cpus": self.share.cores, "num_gpus": self.share.gpus, "max_restarts": 0}
            worker = self.ray.remote(_Worker).options(**options).remote(*self._arguments)
            self._starting[worker.load.remote()] = worker

    def _started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            self.ray.get(reference)
        except Exception as error:
            if failure_cause(self.ray, error) is None:
                raise original_error(self.ray, error) from error
            self._lost_at_start += 1
            if self._lost_at_start == MAX_ATTEMPTS:
                problem = f"lost {MAX_ATTEMPTS} workers one after another while they loaded the model"
                raise ConfigError("--executor ray", problem, "check the memory of the nodes") from error
            return
        self._lost_at_start = 0
        self._free.append(worker)

    def _ended(self, reference: Any, waiting: deque[_Cases]) -> list[CaseRecord]:
        """Return the records of the cases that a worker is through with; where it was lost they wait again."""
        worker, cases = self._going.pop(reference)
        try:
            records: list[CaseRecord] = self.ray.get(reference)
        except Exception as error:
            why = failure_cause(self.ray, error)
            if why is None:
                raise original_error(self.ray, error) from error
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(worker)
            return self._again(cases, why, waiting)
        self._free.append(worker)
        return records

    def _again(self, cases: _Cases, why: FailureCause, waiting: deque[_Cases]) -> list[CaseRecord]:
        if len(cases.jobs) > 1:
            waiting.extendleft(_Cases([job]) for job in reversed(cases.jobs))
            return []
        cases.lost += 1
        if cases.lost < CASE_TRIES:
            waiting.append(cases)
            return []
        (job,) = cases.jobs
        at_fault = DatasetError(
            job.id,
            f"ended its worker {CASE_TRIES} times, most likely for want of memory",
            "crop it, or give more memory",
        )
        return [self._failed(job, MemoryError() if why == "memory" else at_fault, "", 0.0)]


class _Earlier(Journal):
    """What the driver's journal says of a few cases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: dict[str, CaseRecord] = {}


class _Worker(Batch):
    """A process that holds the model and takes cases from reading to writing; it keeps no journal."""

    def __init__(
        self, load: Callable[[], "Model"], sha256: str, out: Path, options: Options, threads: int, at: str
    ) -> None:
        with suppress(OSError):  # paths may be relative; a node without this folder knows none such
            os.chdir(at)
        self._load, self._sha256, self._threads = load, sha256, threads
        self.out, self.options, self.journal = out, options, _Earlier(out)

    def load(self) -> None:
        """Load the model; its errors are told apart from a worker that is lost."""
        import torch

        torch.set_num_threads(self._threads)
        # What these say of odd files may quote the patient.
        for name in ("pydicom", "highdicom", "nibabel"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.model = self._load()
        if self.model.sha256 != self._sha256:
            raise BundleError(self.model.name, "is another bundle on a node than here", "give all nodes the same files")
        self.settings = settings_of(self.model, self.options)

    def predict(self, jobs: Sequence[Job], earlier: dict[str, CaseRecord]) -> list[CaseRecord]:
        """Return the record of every case."""
        self.journal.records = dict(earlier)
        records: list[CaseRecord] = []
        self._overlapped(jobs, records.append, lambda: False)
        return records
