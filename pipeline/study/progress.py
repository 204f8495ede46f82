"""Whoever shows the progress of a study."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.records.folder import RunKey


class Watcher(Protocol):
    """Whoever shows the progress of a study."""

    def say(self, text: str) -> None:
        """Show one line."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` parts and return what is called after each."""

    def runs(self, total: int, done: int) -> None:
        """Begin the runs, of which some may be done already."""

    def run_step(self, key: RunKey, stage: str, done: int, of: int) -> None:
        """Show how far a stage of a run is."""

    def run_done(self, key: RunKey, record: Mapping[str, Any]) -> None:
        """Show the result of a run."""


class Quiet:
    """A watcher that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Show nothing."""
        return lambda: None

    def runs(self, total: int, done: int) -> None:
        """Show nothing."""

    def run_step(self, key: RunKey, stage: str, done: int, of: int) -> None:
        """Show nothing."""

    def run_done(self, key: RunKey, record: Mapping[str, Any]) -> None:
        """Show nothing."""
