"""Child processes that carry out tasks of nnU-Net, and what they print."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.errors import TrainingError, is_out_of_memory
from pipeline.system.operating_system import end_group
from pipeline.trainers.nnunet.process import Task, command_of

KEPT_LINES = 200

SIGKILL = 9
"""What Linux sends to a process for which there is no memory left."""


def run_child(task: Task, environment: Mapping[str, str], log: Path, on_line: Callable[[str], None]) -> None:
    """Carry out a task of nnU-Net in a child process, and wait for it.

    Parameters
    ----------
    task
        The task.
    environment
        Variables in addition to those of this process.
    log
        File to which the output is appended.
    on_line
        Called with each line of the output.

    Raises
    ------
    TrainingError
        If the process fails; the message has the last line of its error.
    MemoryError
        If it ran out of memory, so that the caller tries again with fewer runs at once.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=KEPT_LINES)
    # A process group of its own, so that nnU-Net's own processes can be ended with it.
    child = subprocess.Popen(
        command_of(task),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        with log.open("a", encoding="utf-8", buffering=1) as stream:
            for line in child.stdout:
                stream.write(line)
                last.append(line.rstrip())
                on_line(line)
        status = child.wait()
    finally:
        _end(child)
    if status:
        _raise(status, last, log)


def _end(child: "subprocess.Popen[str]") -> None:
    """Kill a child with all processes of its group."""
    with suppress(ProcessLookupError):
        end_group(child.pid, at_once=True)
    child.wait()


def _raise(status: int, last: deque[str], log: Path) -> None:
    lines = [line for line in last if line.strip()]
    reason = lines[-1] if lines else f"exit code {status}"
    if status == -SIGKILL or any(is_out_of_memory(RuntimeError(line)) for line in lines):
        raise MemoryError(f"nnU-Net ran out of memory: {reason}")
    if any("torchvision::" in line and "does not exist" in line for line in lines):
        raise TrainingError(
            "torchvision", "does not fit the installed torch", "install both from the same package index"
        )
    raise TrainingError(log, f"nnU-Net failed ({reason})", "read the end of this file, correct the cause, and repeat")
