"""Errors that users can catch, in one tree under `SeglossError`, and the exit codes of the command line.

Each error carries three texts that the command line prints as one line: the file or setting concerned, the problem and
the remedy. Any other exception is a bug and shows its traceback.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit code of the command line."""

    OK = 0
    SOME_CASES_FAILED = 1
    """The command finished, but some cases or runs failed; they are listed."""
    WRONG_REQUEST = 2
    """The request cannot be carried out; nothing was done, or the work can be continued after a correction."""


def one_line(subject: str, problem: str, remedy: str) -> str:
    """Return a problem and its remedy as one line of text.

    Examples
    --------
    >>> one_line("label.nii.gz", "is empty (0 bytes)", "copy the file again")
    'label.nii.gz: is empty (0 bytes); copy the file again'
    """
    separator = "" if problem.endswith("?") else ";"
    return f"{subject}: {problem}{separator} {remedy}".replace("\n", " ")


class SeglossError(Exception):
    """A request that cannot be carried out; the message is one line.

    Parameters
    ----------
    subject
        File, folder or setting that has the problem.
    problem
        Description of the problem, with numbers if possible.
    remedy
        Advice for the user.

    Examples
    --------
    >>> print(DatasetError("label.nii.gz", "is empty (0 bytes)", "copy the file again"))
    label.nii.gz: is empty (0 bytes); copy the file again
    """

    def __init__(self, subject: str | Path, problem: str, remedy: str) -> None:
        self.subject = str(subject)
        self.problem = problem
        self.remedy = remedy
        super().__init__(one_line(str(subject), problem, remedy))

    def __reduce__(self) -> tuple[type["SeglossError"], tuple[str, str, str]]:
        """Return the constructor's arguments, for errors that a worker process raises."""
        # By default, pickle would call the constructor with the message alone.
        return type(self), (self.subject, self.problem, self.remedy)


class DatasetError(SeglossError):
    """A dataset or one of its files is missing, damaged or inconsistent."""


class ConfigError(SeglossError):
    """A setting is unknown, malformed or out of range."""


class RecordError(SeglossError):
    """A study folder or a table of results cannot be read or continued."""


class TrainingError(SeglossError):
    """A run cannot be trained or evaluated."""


class BundleError(SeglossError):
    """A bundle is refused or cannot be exported."""


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc")
"""Parts of the messages of torch and of C++ libraries when memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error was raised since the memory of the machine or of a GPU ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory")), is_out_of_memory(RuntimeError("shape mismatch"))
    (True, False)
    """
    # For the memory of the machine, torch raises a plain RuntimeError, which only its message tells from others.
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(text in message for text in _OUT_OF_MEMORY)
