"""Time and peak memory of a command with all processes that it starts."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_S = 0.05
"""Interval between two readings of the memory, in seconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Resources that a command used.

    Attributes
    ----------
    seconds
        Elapsed time in seconds.
    cpu_seconds
        Processor time of the command and of all children that it waited for, in seconds.
    peak_mib
        Largest sum of the memory of its processes, in MiB; pages that several share count once (PSS).
    output
        Text on stdout.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command and return its resources and output.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak[0] / 2**20, output)


def _watch(pid: int, peak: list[int]) -> None:
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in (root, *root.children(recursive=True)):
                total += _proportional_bytes(process.pid)
            peak[0] = max(peak[0], total)
            time.sleep(EVERY_S)
    except psutil.Error:
        return


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
