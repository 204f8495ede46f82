"""Progress of a study: the interface of its displays."""

from collections.abc import Callable
from typing import Protocol

from pipeline.records.folder import RunKey
from pipeline.records.run import RunRecord


class Progress(Protocol):
    """Interface for displaying the progress of a study."""

    def message(self, text: str) -> None:
        """Display one line."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` parts and return the function to call after each part."""

    def begin_runs(self, total: int, finished: int) -> None:
        """Begin the runs, of which some may have finished earlier."""

    def run_step(self, key: RunKey, stage: str, done: int, total: int) -> None:
        """Display that `done` of `total` parts of a stage of a run are complete."""

    def run_finished(self, key: RunKey, record: RunRecord) -> None:
        """Display the result of a run."""


class SilentProgress:
    """Progress that displays nothing; base class for displays of a part of it."""

    def message(self, text: str) -> None:
        """Do nothing."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Do nothing."""
        return lambda: None

    def begin_runs(self, total: int, finished: int) -> None:
        """Do nothing."""

    def run_step(self, key: RunKey, stage: str, done: int, total: int) -> None:
        """Do nothing."""

    def run_finished(self, key: RunKey, record: RunRecord) -> None:
        """Do nothing."""
