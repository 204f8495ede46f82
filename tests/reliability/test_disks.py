"""A disk that fills up or cannot be written: one line, and the same command goes on once there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from commands import ended, start
from killing import attempt, differences, results_of, studying
from test_killed_studies import request

from pipeline.errors import ExitCode
from pipeline.records.folder import StudyFolder

SIZE = 8 << 20


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount an empty file system of its own, in memory; skip where that is not allowed."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk but for `leave` bytes."""
    balloon = folder / "balloon"
    balloon.unlink(missing_ok=True)
    state = os.statvfs(folder)
    with balloon.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave))
    return balloon


def test_a_disk_that_fills_up_at_any_write_costs_nothing_but_the_time(tmp_path: Path) -> None:
    asked = request(tmp_path, losses="dice")
    whole = attempt(studying(replace(asked, out=tmp_path / "whole")))
    assert whole.finished, whole.failed
    expected = results_of(StudyFolder(tmp_path / "whole"))
    with mounted(tmp_path / "disk", f"size={SIZE}") as disk:
        study = StudyFolder(disk / "study")
        failures = []
        left = 0
        while True:
            balloon = fill(disk, left)
            outcome = attempt(studying(replace(asked, out=study.root)))
            balloon.unlink()
            if outcome.finished:
                break
            failures.append(outcome.failed)
            left += 96 << 10
        print(f"the disk was full {len(failures)} times before the study ended")
        assert len(failures) >= 4
        assert not [line for line in failures if "No space left on device" not in line]
        assert differences(results_of(study), expected) == []


def test_a_full_disk_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    asked = request(tmp_path, losses="dice")
    with mounted(tmp_path / "disk", f"size={SIZE}") as disk:
        fill(disk, 8 << 10)
        code = ended(
            start(
                ["study", str(asked.dataset), "--out", str(disk / "study"), "--folds", "2", "--no-track"],
                tmp_path / "said",
            )
        )
    lines = (tmp_path / "said").read_text().splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    assert code == ExitCode.WRONG_REQUEST
    assert "Traceback" not in "\n".join(lines)
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "free disk space, then repeat the command; it continues" in errors[0]


def test_a_read_only_output_is_one_line_before_any_work(tmp_path: Path) -> None:
    asked = request(tmp_path, losses="dice")
    with mounted(tmp_path / "disk", "ro") as disk:
        code = ended(
            start(
                ["study", str(asked.dataset), "--out", str(disk / "study"), "--folds", "2", "--no-track"],
                tmp_path / "said",
            )
        )
    lines = (tmp_path / "said").read_text().splitlines()
    assert code == ExitCode.WRONG_REQUEST
    assert len(lines) == 1
    assert "Read-only file system" in lines[0]
    assert "give another --out folder" in lines[0]
