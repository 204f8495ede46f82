"""Executor in several processes of this machine. It continues when a process dies or runs out of memory."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool

from pipeline.errors import TrainingError, is_out_of_memory
from pipeline.records.folder import RunKey
from pipeline.study.executors.executor import RunMonitor, ScheduledRun
from pipeline.study.executors.reusable_pool import ReusablePool, on_least_used_gpu, send_message

DIED = "a worker process died, most likely for lack of memory"
NO_MEMORY = "ran out of memory"
POLL_S = 0.5
STEPS_A_MESSAGE = 5
"""A worker reports every fifth step, so that short steps do not wait for the queue."""


class WorkerProcessExecutor:
    """Carry out `jobs` runs at once, each in a worker process.

    After a process died or ran out of memory, the runs continue from their last checkpoints, half as many at once: most
    often the memory of the machine was too small for all of them together.
    """

    def __init__(self, pool: ReusablePool, jobs: int) -> None:
        self.pool, self.jobs = pool, jobs

    def execute(self, runs: Sequence[ScheduledRun], monitor: RunMonitor) -> None:
        """Carry out the runs; see `pipeline.study.executors.executor.Executor`.

        Raises
        ------
        TrainingError
            If a run loses its process twice while no other run is beside it.
        """
        jobs = self.jobs
        lost_alone: set[RunKey] = set()
        reported: set[RunKey] = set()

        def report(key: RunKey) -> None:
            reported.add(key)
            monitor.run_finished(key)

        while True:
            try:
                return self._run_at_once(runs, jobs, monitor, report)
            except _WorkerLost as lost:
                names = ", ".join(key.short_name for key in lost.keys) or "a run"
                if jobs == 1 and lost_alone.intersection(lost.keys):
                    raise TrainingError(
                        names,
                        f"{lost.reason} twice",
                        f"free memory and repeat the command, which continues the study; "
                        f"or {runs[0].trainer.memory_advice}",
                    ) from lost
                if jobs == 1:
                    lost_alone.update(lost.keys)
                jobs = max(1, jobs // 2)
                # A run may have written its record in the moment in which the pool broke.
                for scheduled in runs:
                    if scheduled.folder.record.exists() and scheduled.key not in reported:
                        report(scheduled.key)
                monitor.message(f"{names}: {lost.reason}; continuing from the last checkpoint with {jobs} at once")

    def _run_at_once(
        self, runs: Sequence[ScheduledRun], jobs: int, monitor: RunMonitor, report: Callable[[RunKey], None]
    ) -> None:
        """Carry out the runs that have no record, `jobs` at once; raise `_WorkerLost` when a process is lost."""
        waiting = deque(scheduled for scheduled in runs if not scheduled.folder.record.exists())
        active: dict[Future[None], RunKey] = {}
        with self.pool.processes(jobs) as pool:
            while True:
                while waiting and len(active) < jobs:
                    scheduled = waiting.popleft()
                    if not monitor.is_needed(scheduled.key):
                        continue
                    try:
                        future = pool.submit(_carry_out, scheduled)
                    except BrokenProcessPool as error:
                        raise _WorkerLost([*active.values(), scheduled.key], DIED) from error
                    active[future] = scheduled.key
                if not active:
                    return
                finished, _ = wait(active, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for message in self.pool.received_messages():
                    monitor.run_step(*message)
                for future in finished:
                    self._check(future, active)
                    report(active.pop(future))

    @staticmethod
    def _check(future: "Future[None]", active: "dict[Future[None], RunKey]") -> None:
        """Raise `_WorkerLost` if the process of a run was lost, and any other error of the run unchanged."""
        try:
            future.result()
        except BrokenProcessPool as error:  # The pool cannot tell which of its processes died.
            raise _WorkerLost(list(active.values()), DIED) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise _WorkerLost([active[future]], NO_MEMORY) from error


class _WorkerLost(Exception):
    """Runs that were active when a worker process died or ran out of memory."""

    def __init__(self, keys: Sequence[RunKey], reason: str) -> None:
        self.keys, self.reason = keys, reason
        super().__init__(reason)


def _carry_out(scheduled: ScheduledRun) -> None:
    def on_step(stage: str, done: int, total: int) -> None:
        if done % STEPS_A_MESSAGE == 0 or done == total:
            send_message((scheduled.key, stage, done, total))

    on_least_used_gpu(scheduled.carry_out, on_step)
