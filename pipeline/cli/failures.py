"""Failures that are neither a wrong request nor a bug: a full disk, a folder that cannot be written, no memory."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from pipeline.errors import SeglossError, is_out_of_memory

_REMEDIES = {
    errno.ENOSPC: "free space there, then call again: the same command continues",
    errno.EDQUOT: "free space there, then call again: the same command continues",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "correct its rights, or give another folder",
    errno.EPERM: "correct its rights, or give another folder",
    errno.EIO: "check the disk, then call again: the same command continues",
    errno.ESTALE: "check the file server, then call again: the same command continues",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then call again",
    errno.ENFILE: "close other programs, then call again",
    errno.ENOMEM: "close other programs, or give --jobs 1",
}

_STOPPING = (signal.SIGTERM, signal.SIGINT)

ECHO_S = 0.3
"""A signal so soon after the first is the same one: `timeout` and process managers send it to a process twice."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; click would turn a KeyboardInterrupt into an exit code of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let a first SIGTERM or Ctrl-C raise `Stopped`; a second one ends the process, whatever it is doing.

    A command may replace the handlers of the first signal. The second one is noticed by a thread of its own, since
    Python runs handlers in the main thread only, which may be waiting for a read that never returns.
    """
    raised = False

    def raise_stopped(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise Stopped(number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    earlier_pipe = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    earlier = {number: signal.signal(number, raise_stopped) for number in _STOPPING}
    # A forked child shares the pipe: its signals are not those of this process.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    Thread(target=_end_at_second_signal, args=(reading,), name="second signal", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier_pipe)
        os.close(writing)
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end_at_second_signal(reading: int) -> None:
    """Count the signals that arrive in the pipe until its other end is closed."""
    first_at: float | None = None
    while numbers := os.read(reading, 64):
        for number in set(numbers).intersection(_STOPPING):
            if first_at is None:
                first_at = time.monotonic()
            elif time.monotonic() - first_at > ECHO_S:
                os.write(2, f"ended by a second {signal.Signals(number).name}; the same command continues\n".encode())
                os._exit(128 + number)
    os.close(reading)


def explained(error: BaseException) -> SeglossError | None:
    """Return an error of one line for what the machine refused; None where the error is a bug."""
    if is_out_of_memory(error):
        return SeglossError("memory", f"ran out ({str(error)[:120] or 'out of memory'})", "give --jobs 1")
    if not isinstance(error, OSError):
        return None
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return SeglossError(error.filename or "a file", f"cannot be written or read ({error.strerror})", remedy)
