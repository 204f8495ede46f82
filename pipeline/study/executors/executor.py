"""The interface of executors: what they are given, and what they report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.records.folder import RunFolder, RunKey
from pipeline.trainers.trainer import OnStep, Run, Trainer


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """One run that has to be carried out, and the trainer that does it; it travels to worker processes."""

    trainer: Trainer
    run: Run

    @property
    def folder(self) -> RunFolder:
        """Folder that receives the record."""
        return self.run.folder

    @property
    def key(self) -> RunKey:
        """Loss, fold and seed."""
        return self.run.key

    def carry_out(self, on_step: OnStep) -> None:
        """Carry out the run; its record exists afterwards."""
        self.trainer.carry_out(self.run, on_step)


class RunMonitor(Protocol):
    """Interface through which an executor reports the progress of runs, and asks which of them are still needed."""

    def is_needed(self, key: RunKey) -> bool:
        """Return whether a run must still be carried out; called once, just before the run begins."""

    def run_step(self, key: RunKey, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` parts of a stage are complete."""

    def run_finished(self, key: RunKey) -> None:
        """Report a run whose record is written; called once for each run."""

    def message(self, text: str) -> None:
        """Report an event in one line, such as the loss of a worker."""


class Executor(Protocol):
    """Interface of everything that can carry out runs."""

    def execute(self, runs: Sequence[ScheduledRun], monitor: RunMonitor) -> None:
        """Carry out the runs, in order where they do not run at once; every needed run has its record afterwards.

        Raises
        ------
        TrainingError
            If a run cannot be completed, for example for lack of memory. The same command continues the study.
        """
