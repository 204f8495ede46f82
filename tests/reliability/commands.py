"""Run `whichloss` in a forked child, which finds every module imported."""

import os
import signal
import sys
import time
from pathlib import Path

import torch


def forked() -> int:
    """Fork, and let the child compute on one thread: its parent's are not there, and OpenMP waits for them for ever."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
    return child


def start(arguments: list[str], said: Path) -> int:
    """Start `whichloss` in a child with a process group of its own, whose stderr goes to `said`; return its id."""
    child = forked()
    if child == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            stream = said.open("w", encoding="utf-8")
            os.dup2(stream.fileno(), 2)
            sys.stderr = stream
            sys.argv = ["whichloss", *arguments]
            from pipeline.cli.app import main

            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Wait for the child and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended_within(child: int, seconds: float) -> int:
    """Return the exit code of a child; one that runs longer is killed and fails the test."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    ended(child)
    raise AssertionError(f"it ran longer than {seconds:g} s")
