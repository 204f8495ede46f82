"""After a worker process died or ran out of memory, one line is printed and the runs continue, fewer at once."""

import os
import pickle
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from recording_monitor import RecordingMonitor

from pipeline.cli.failures import as_user_error
from pipeline.errors import TrainingError
from pipeline.losses import LossSpec
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.tolerance import Tolerance
from pipeline.study.executors.executor import ScheduledRun
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.executors.worker_processes import WorkerProcessExecutor
from pipeline.trainers.engine import EngineTrainer
from pipeline.trainers.trainer import Run

TORCH_SAYS = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


def folders(root: Path, count: int = 4):
    # No setting but the patch matters: the trainer is asked for advice only.
    trainer = EngineTrainer(SimpleNamespace(patch=(64, 64, 64)), {}, 100, "float32", (0.01,), 1, "cpu", True)
    found = []
    for fold in range(count):
        folder = RunFolder(root / str(fold), RunKey("dice", fold, 0))
        folder.root.mkdir()
        run = Run(folder, LossSpec("dice"), {1: "a"}, (9, 1), (), (), Tolerance(1.0))
        found.append(ScheduledRun(trainer, run))
    return found


@pytest.fixture
def carry_out(monkeypatch):
    """Run with a pool whose jobs call `does`; return the sizes of the pools, messages, finished runs and the error."""

    def carried(runs, jobs, does):
        at_once, monitor = [], RecordingMonitor()

        @contextmanager
        def pool(workers, *begin):
            at_once.append(workers)

            class Pool:
                def submit(self, _, scheduled):
                    future = Future()
                    try:
                        does(scheduled.folder, len(at_once))
                        scheduled.folder.record.write_text("{}")
                        future.set_result(None)
                    except Exception as error:
                        future.set_exception(error)
                    return future

            yield Pool()

        monkeypatch.setattr("pipeline.study.executors.reusable_pool.worker_pool", pool)
        try:
            with ReusablePool() as processes:
                WorkerProcessExecutor(processes, jobs).execute(runs, monitor)
        except TrainingError as error:
            return at_once, monitor.messages, monitor.finished, error
        return at_once, monitor.messages, monitor.finished, None

    return carried


def test_a_worker_that_dies_once_is_one_line_and_the_study_continues(tmp_path, carry_out):
    def dies_once(folder, pools):
        if pools == 1 and folder.key.fold == 1:
            raise BrokenProcessPool

    at_once, said, done, error = carry_out(folders(tmp_path), 4, dies_once)
    assert error is None
    assert at_once == [4, 2]
    assert len(said) == 1
    assert "a worker process died" in said[0]
    assert "continuing from the last checkpoint with 2 at once" in said[0]
    assert sorted(key.fold for key in done) == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(TORCH_SAYS)])
def test_memory_that_is_never_enough_ends_with_the_next_smaller_setting(tmp_path, carry_out, error):
    def never(folder, pools):
        raise error

    at_once, said, done, ended = carry_out(folders(tmp_path), 4, never)
    assert at_once == [4, 2, 1, 1]
    assert len(said) == 3
    assert done == []
    assert "ran out of memory twice" in str(ended)
    assert "--memory 0.73, which halves the patch of 64×64×64 voxels" in str(ended)
    assert "\n" not in str(ended)


def test_the_setting_named_gives_at_most_half_the_patch(tmp_path):
    from pipeline.data.planning import BYTES_PER_VOXEL, MINIMUM_BATCH, smaller_memory_gib

    gib = float(f"{smaller_memory_gib(SimpleNamespace(patch=(64, 64, 64))):.2g}")
    assert gib * 2**30 / (MINIMUM_BATCH * BYTES_PER_VOXEL) <= 64**3 / 2


def test_other_errors_of_a_worker_are_bugs(tmp_path, carry_out):
    def fails(folder, pools):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        carry_out(folders(tmp_path), 2, fails)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, os.strerror(28), "/out/x"), "/out/x: cannot be written or read (No space left on device)"),
        (OSError(30, os.strerror(30), "/out/x"), "give a folder that can be written"),
        (PermissionError(13, os.strerror(13), "/out/x"), "correct its permissions"),
        (MemoryError(), "retry with --jobs 1"),
        (RuntimeError(TORCH_SAYS), "can't allocate memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, words):
    assert words in str(as_user_error(error))
    assert "\n" not in str(as_user_error(error))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), RuntimeError("x"), ValueError("x")])
def test_bugs_stay_bugs(error):
    assert as_user_error(error) is None


def test_an_error_comes_back_from_a_worker_as_it_is():
    error = pickle.loads(pickle.dumps(TrainingError("dice s0 f1", "fails", "call again")))
    assert type(error) is TrainingError
    assert str(error) == "dice s0 f1: fails; call again"
    assert error.remedy == "call again"


def test_a_run_that_another_process_carries_out_is_left_to_it(tmp_path):
    from pipeline.errors import RecordError
    from pipeline.system.folder_lock import exclusive
    from pipeline.training.run import run

    (scheduled,) = folders(tmp_path, 1)
    folder = scheduled.folder
    with exclusive(folder.root), pytest.raises(RecordError, match=f"in use by process {os.getpid()}"):
        run(SimpleNamespace(), folder)
