"""Executor without other processes, for studies so small that starting processes costs more than it saves."""

from collections.abc import Sequence
from functools import partial

from pipeline.study.executors.executor import RunMonitor, ScheduledRun


class InProcessExecutor:
    """Carry out one run after the other in the calling process."""

    def execute(self, runs: Sequence[ScheduledRun], monitor: RunMonitor) -> None:
        """Carry out the runs in order. Errors of a run reach the caller; nothing is retried."""
        for scheduled in runs:
            if monitor.is_needed(scheduled.key):
                scheduled.carry_out(partial(monitor.run_step, scheduled.key))
                monitor.run_finished(scheduled.key)
