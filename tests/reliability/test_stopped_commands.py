"""`whichloss study` as a process: stopped by SIGTERM, killed, started twice, its worker killed."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from commands import ended, start
from test_killed_studies import request

from pipeline.records.folder import RunKey, StudyFolder

PATIENCE_S = 600


def wait_for(what, child: int):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended by itself"
        time.sleep(0.1)
    raise AssertionError("nothing happened")


def gone(processes: list[psutil.Process], within_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


@pytest.fixture
def study(tmp_path):
    asked = request(tmp_path, losses="dice", budget="4000steps")
    arguments = ["study", str(asked.dataset), "--losses", "dice", "--out", str(tmp_path / "study"), "--folds", "2"]
    arguments += ["--budget", "4000steps", "--jobs", "1", "--precision", "float32", "--learning-rates", "0.004"]
    return [*arguments, "--no-track"], StudyFolder(tmp_path / "study")


def test_sigterm_is_clean_and_quick_and_a_second_process_names_the_first(study, tmp_path):
    arguments, folder = study
    child = start(arguments, tmp_path / "said")
    try:
        wait_for((folder.run(RunKey("dice", 0, 0)).root / ".lock").exists, child)
        assert ended(start(arguments, tmp_path / "second")) == 2
        assert f"is in use by process {child} on" in (tmp_path / "second").read_text()
        workers = psutil.Process(child).children(recursive=True)
        assert workers
        began = time.monotonic()
        os.kill(child, signal.SIGTERM)
        assert ended(child) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 20
        assert gone(workers, 20)
        said = (tmp_path / "said").read_text()
        # The forked child leaves without Python's clean-up, of which the tracker of semaphores warns afterwards.
        assert "stopped by SIGTERM; the same command continues" in said.splitlines()
        assert "Traceback" not in said
    finally:
        with_group_killed(child)


def test_workers_die_with_a_study_that_is_killed_alone(study, tmp_path):
    arguments, folder = study
    child = start(arguments, tmp_path / "said")
    try:
        wait_for((folder.run(RunKey("dice", 0, 0)).root / ".lock").exists, child)
        workers = [each for each in psutil.Process(child).children() if "spawn_main" in " ".join(each.cmdline())]
        assert workers
        os.kill(child, signal.SIGKILL)
        ended(child)
        assert gone(workers, 20), "an orphan would write beside the next one"
    finally:
        with_group_killed(child)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line_and_the_study_ends_well(tmp_path):
    asked = request(tmp_path, losses="dice", budget="300steps")
    folder = StudyFolder(tmp_path / "study")
    arguments = [
        "study",
        str(asked.dataset),
        "--losses",
        "dice",
        "--out",
        str(folder.root),
        "--folds",
        "2",
        "--jobs",
        "1",
    ]
    arguments += ["--budget", "300steps", "--precision", "float32", "--learning-rates", "0.004", "--no-track"]
    child = start(arguments, tmp_path / "said")
    try:
        wait_for((folder.run(RunKey("dice", 0, 0)).root / ".lock").exists, child)
        for worker in psutil.Process(child).children():
            if "spawn_main" in " ".join(worker.cmdline()):
                worker.kill()
        assert ended(child) == 0
        lines = [line for line in (tmp_path / "said").read_text().splitlines() if "a worker process died" in line]
        assert len(lines) == 1
        assert folder.verdict.exists()
    finally:
        with_group_killed(child)


def with_group_killed(child: int) -> None:
    """End the processes that a failed test has left."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return
