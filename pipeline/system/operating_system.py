"""What operating systems do differently. Nothing else asks which one it is; calls that only some have are made here."""

import ctypes
import os
import signal
import threading
import time

import psutil

_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal that a process receives when its parent dies."""

_POLL_S = 0.5
"""Seconds between two looks at the parent process, in a process that the kernel does not end with its parent."""


def available_cores() -> int:
    """Return the number of cores that this process may use; without `sched_getaffinity`, those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lower_priority(by: int) -> None:
    """Let other processes go first, by `by` steps of POSIX `nice`; without effect on Windows."""
    if hasattr(os, "nice"):
        os.nice(by)


def parent_is_gone(parent: int) -> bool:
    """Return whether the process `parent`, which started this one, has ended.

    On POSIX, an orphan gets another parent at once. On Windows it keeps the number, which then belongs to nobody.
    """
    return os.getppid() != parent or not psutil.pid_exists(parent)


def end_with_parent(parent: int) -> None:
    """Kill this process as soon as the process `parent`, which started it, dies by whatever means.

    Linux's kernel does so, even for a process that is stuck in a library. It takes "parent" to be the thread that
    started this process. Elsewhere a thread looks twice a second.
    """
    try:
        arranged = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (AttributeError, TypeError):  # Only Linux has prctl; on Windows, CDLL takes no None.
        arranged = False
    # The kernel sends no signal for a parent that died before prctl was called.
    if parent_is_gone(parent):
        _kill(os.getpid())
    if not arranged:
        _watch(parent, whole_group=False)


def end_group_with_parent() -> None:
    """Kill this process and all of its group, which it must lead, when the process that started it is gone."""
    _watch(os.getppid(), whole_group=True)


def end_group(leader: int, *, at_once: bool) -> None:
    """Send SIGTERM, or SIGKILL if `at_once`, to a process that was started with `start_new_session`, and to its group.

    Windows has no groups: there, the process and its descendants are ended at once.

    Raises
    ------
    ProcessLookupError
        The group has ended.
    """
    if hasattr(os, "killpg"):
        os.killpg(leader, signal.SIGKILL if at_once else signal.SIGTERM)
        return
    try:
        processes = psutil.Process(leader).children(recursive=True)
        for process in processes:
            _kill(process.pid)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(leader) from None
    _kill(leader)


def _watch(parent: int, *, whole_group: bool) -> None:
    def watch() -> None:
        while not parent_is_gone(parent):
            time.sleep(_POLL_S)
        if whole_group:
            end_group(os.getpid(), at_once=True)
        else:
            _kill(os.getpid())

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _kill(process: int) -> None:
    """Kill a process by SIGKILL; on Windows, which lacks it, SIGTERM does the same."""
    os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
