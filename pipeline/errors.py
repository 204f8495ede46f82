"""The one tree of errors whose names users catch.

Each error carries what the command line prints as a single line: the file or setting concerned, what is wrong with
it, and what to do. Anything that is not a `SeglossError` is a bug and shows its traceback.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the command line returns to the shell."""

    OK = 0
    SOME_CASES_FAILED = 1
    WRONG_REQUEST = 2


class SeglossError(Exception):
    """A request that cannot be carried out, in one line.

    Parameters
    ----------
    subject
        The file, folder or setting the problem is about.
    problem
        What is wrong with it, with numbers where there are any.
    remedy
        What the user can do about it.
    """

    def __init__(self, subject: str | Path, problem: str, remedy: str) -> None:
        self.subject = str(subject)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{subject}: {problem}; {remedy}".replace("\n", " "))

    def __reduce__(self) -> tuple[type["SeglossError"], tuple[str, str, str]]:
        """Let it come back from a worker process as it is."""
        return type(self), (self.subject, self.problem, self.remedy)


class DatasetError(SeglossError):
    """The dataset cannot be used as it is."""


class ConfigError(SeglossError):
    """A setting is unknown, malformed or out of range."""


class RecordError(SeglossError):
    """A study folder or a table of results cannot be read or continued."""


class TrainingError(SeglossError):
    """A run could not be trained or evaluated."""


class BundleError(SeglossError):
    """A bundle is refused, or cannot be made."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not to be had; torch tells it by its words alone."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(
        part in words for part in ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc")
    )
