"""Failures of the machine rather than of the request: a full disk, missing permissions, no memory, signals."""

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from pipeline.errors import SeglossError, is_out_of_memory

_CONTINUE = "then repeat the command; it continues"

_REMEDIES = {
    errno.ENOSPC: f"free disk space, {_CONTINUE}",
    errno.EDQUOT: f"free disk space, {_CONTINUE}",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "correct its permissions, or give another folder",
    errno.EPERM: "correct its permissions, or give another folder",
    errno.EIO: f"check the disk, {_CONTINUE}",
    errno.ESTALE: f"check the file server, {_CONTINUE}",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {_CONTINUE}",
    errno.ENFILE: f"close other programs, {_CONTINUE}",
    errno.ENOMEM: "close other programs, or retry with --jobs 1",
}

_STOPPING = (signal.SIGTERM, signal.SIGINT)

ECHO_S = 0.3
"""Seconds within which a second signal counts as the first. `timeout` and process managers signal both a process and
its group, so that the process receives each signal twice."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C. A KeyboardInterrupt would not do, since click turns it into an exit code of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `Stopped` on the first SIGTERM or Ctrl-C; end the process on the second one, whatever it is doing.

    A command may replace the handlers of the first signal.
    """
    raised = False

    def raise_stopped(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise Stopped(number)

    # A thread notices the second signal. Python runs handlers in the main thread only, which may be waiting for a read
    # that never returns. set_wakeup_fd makes the interpreter write the number of each signal into the pipe at once.
    # It is a pair of sockets since Windows takes nothing else.
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    earlier_pipe = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    earlier = {number: signal.signal(number, raise_stopped) for number in _STOPPING}
    # A forked child shares the pipe, so that its own signals would be taken for signals to this process.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    Thread(target=_end_at_second_signal, args=(reading,), name="second signal", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier_pipe)
        writing.close()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end_at_second_signal(reading: socket.socket) -> None:
    """Read the numbers of signals from the pipe until its other end is closed; end the process at a second signal."""
    first_at: float | None = None
    while numbers := reading.recv(64):
        for number in set(numbers).intersection(_STOPPING):
            if first_at is None:
                first_at = time.monotonic()
            elif time.monotonic() - first_at > ECHO_S:
                os.write(2, f"ended by a second {signal.Signals(number).name}; the same command continues\n".encode())
                os._exit(128 + number)
    reading.close()


def as_user_error(error: BaseException) -> SeglossError | None:
    """Return an error of one line for a failure of the machine; None if the error is a bug.

    Examples
    --------
    >>> print(as_user_error(OSError(errno.ENOSPC, "No space left on device", "/out/x")))
    /out/x: cannot be written or read (No space left on device); free disk space, then repeat the command; it continues
    """
    if is_out_of_memory(error):
        details = str(error)[:120]
        return SeglossError("out of memory", details or "the memory was exhausted", "retry with --jobs 1")
    if not isinstance(error, OSError):
        return None
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return SeglossError(error.filename or "a file", f"cannot be written or read ({error.strerror})", remedy)
