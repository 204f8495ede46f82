"""What all executors have in common: which runs they carry out, how many at once, and what they report."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from recording_monitor import RecordingMonitor
from scheduled_runs import StandInTrainer, scheduled_run

from pipeline.study.executors.in_process import InProcessExecutor
from pipeline.study.executors.ray import RayExecutor
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.executors.selection import select_executor
from pipeline.study.executors.worker_processes import WorkerProcessExecutor
from pipeline.study.request import StudyRequest


class WithoutFoldOne(RecordingMonitor):
    """Every run but that of fold 1 is needed."""

    def is_needed(self, key):
        return key.fold != 1


@pytest.fixture
def runs(tmp_path):
    for fold in range(5):
        (tmp_path / str(fold)).mkdir()
    trainer = StandInTrainer()
    return [scheduled_run(tmp_path / str(fold), fold, trainer) for fold in range(5)]


def test_runs_in_this_process_keep_their_order_and_skip_what_is_not_needed(runs):
    done = []
    runs[0].trainer.does = lambda run, on_step: done.append(run.key.fold)
    monitor = WithoutFoldOne()
    InProcessExecutor().execute(runs, monitor)
    assert done == [0, 2, 3, 4]
    assert [key.fold for key in monitor.finished] == done


def test_no_more_runs_than_jobs_are_active_and_finished_ones_are_not_repeated(runs, monkeypatch):
    active, most, done, lock = 0, 0, [], threading.Lock()

    def carry_out(run, on_step):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.05)
        with lock:
            active -= 1
            done.append(run.key.fold)

    @contextmanager
    def threads(jobs, *initializer):
        with ThreadPoolExecutor(8) as pool:
            yield pool

    runs[0].trainer.does = carry_out
    monkeypatch.setattr("pipeline.study.executors.reusable_pool.worker_pool", threads)
    runs[4].folder.record.write_text("{}", encoding="utf-8")
    monitor = WithoutFoldOne()
    with ReusablePool() as pool:
        WorkerProcessExecutor(pool, 2).execute(runs, monitor)
    assert most == 2
    assert sorted(done) == sorted(key.fold for key in monitor.finished) == [0, 2, 3]


@pytest.mark.parametrize(
    ("executor", "without_processes", "expected"),
    [("local", True, InProcessExecutor), ("local", False, WorkerProcessExecutor), ("ray", False, RayExecutor)],
)
def test_the_request_selects_the_executor(executor, without_processes, expected):
    request = StudyRequest(dataset=Path("data"), out=Path("out"), executor=executor)
    with ReusablePool() as pool:
        assert type(select_executor(request, 2, pool, without_processes)) is expected
