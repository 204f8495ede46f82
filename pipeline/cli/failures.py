"""Failures that are neither a wrong request nor a bug: a full disk, a folder that cannot be written, no memory."""

import errno
import signal
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


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; click would turn a KeyboardInterrupt into an exit code of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def stop_cleanly() -> None:
    """Let SIGTERM and Ctrl-C end the command by `Stopped`, so that whatever it started is ended too."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def explained(error: BaseException) -> SeglossError | None:
    """Return in one line, with a remedy, what the machine refused; None where it is a bug."""
    if is_out_of_memory(error):
        return SeglossError("memory", f"was not to be had ({str(error)[:120] or 'out of memory'})", "give --jobs 1")
    if not isinstance(error, OSError):
        return None
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return SeglossError(error.filename or "a file", f"cannot be written or read ({error.strerror})", remedy)
