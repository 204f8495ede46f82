"""Interface for reporting the progress of an export."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Receives the stages of an export as they happen."""

    def say(self, text: str) -> None:
        """Report one line."""

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage of `total` parts; the returned function receives the number of parts that are done."""


class Silent:
    """A progress that is not reported."""

    def say(self, text: str) -> None:
        """Report nothing."""

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Report nothing."""
        return lambda done: None
