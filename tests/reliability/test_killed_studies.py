"""Any stop is a pause: a study that was killed and continued leaves what one leaves that was never stopped."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from killing import PipedProgress, attempt, carry_out, differences, kill_until, results_of, studying
from tiny_dataset import make_tiny_dataset

from pipeline.records.folder import RunKey, StudyFolder
from pipeline.study.progress import SilentProgress
from pipeline.study.request import StudyRequest
from pipeline.training.checkpoint import ResumePoint


def request(root: Path, **changes: object) -> StudyRequest:
    settings = {
        "dataset": make_tiny_dataset(root / "balls", cases=4),
        "out": root / "unused",
        "losses": "dice,ce",
        "folds": 2,
        "budget": "12steps",
        "learning_rates": (0.004,),
        "jobs": 1,
        "precision": "float32",
        "track": False,
    }
    return StudyRequest(**(settings | changes))  # type: ignore[arg-type]


class DiesAtStepEight(PipedProgress):
    """Kill the process as soon as the first run has taken eight steps."""

    def run_step(self, key, stage, done, total):
        super().run_step(key, stage, done, total)
        if stage == "training" and key.fold == 0 and done == 8:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_damaged_last_state_costs_an_epoch_more_and_no_result(tmp_path: Path) -> None:
    asked = request(tmp_path, losses="dice")
    carry_out(replace(asked, out=tmp_path / "whole"), SilentProgress())
    study = StudyFolder(tmp_path / "stopped")
    attempt(lambda pipe: carry_out(replace(asked, out=study.root), DiesAtStepEight(pipe)))
    point = ResumePoint(study.run(RunKey("dice", 0, 0)).root)
    content = bytearray(point.latest.read_bytes())
    content[len(content) // 2] ^= 1
    point.latest.write_bytes(content)
    outcome = attempt(studying(replace(asked, out=study.root)))
    assert outcome.finished, outcome.failed
    assert outcome.first_steps["dice", 0] == 7
    assert differences(results_of(study), results_of(StudyFolder(tmp_path / "whole"))) == []


def test_six_kills_leave_no_trace(tmp_path: Path) -> None:
    tally = kill_until(6, request(tmp_path, losses="dice"), tmp_path, seed=1, write_moments=60, part=0.6)
    assert tally.losses == []
    assert tally.most_steps_lost <= 3


@pytest.mark.slow
def test_a_hundred_kills_half_of_them_inside_writes_leave_no_trace(tmp_path: Path) -> None:
    tally = kill_until(100, request(tmp_path), tmp_path, seed=0, write_moments=40, part=0.2)
    print(tally.line())
    assert tally.losses == []
    assert tally.most_steps_lost <= 3
    assert sum(count for where, count in tally.kills.items() if where != "from outside") >= 40


@pytest.mark.slow
def test_kills_in_the_search_over_learning_rates_leave_no_trace(tmp_path: Path) -> None:
    searching = request(tmp_path, losses="dice", learning_rates=(0.001, 0.004))
    tally = kill_until(10, searching, tmp_path, seed=2, write_moments=40, part=0.4)
    print(tally.line())
    assert tally.losses == []
