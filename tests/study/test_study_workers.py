import os
import signal
import sys
import time

import pytest
from recording_monitor import RecordingMonitor
from scheduled_runs import StandInTrainer, scheduled_run

from pipeline.study.executors import worker_processes
from pipeline.study.executors.reusable_pool import ReusablePool


def process_id():
    time.sleep(0.1)
    return os.getpid()


def processes(pool):
    return {job.result() for job in [pool.submit(process_id) for _ in range(8)]}


def write_record(run, on_step):
    run.folder.record.write_text("{}", encoding="utf-8")


def folders(root, count):
    for fold in range(count):
        (root / str(fold)).mkdir()
    return [scheduled_run(root / str(fold), fold, StandInTrainer(write_record)) for fold in range(count)]


def test_processes_are_reused_while_the_same_number_is_needed():
    with ReusablePool() as workers:
        with workers.processes(1) as pool:
            first = processes(pool)
        with workers.processes(1) as pool:
            assert processes(pool) == first
        with workers.processes(2) as pool:
            assert not processes(pool) & first


def has_imported(name):
    return name in sys.modules


def test_processes_that_started_early_have_imported_training():
    with ReusablePool() as workers:
        workers.start(1)
        with workers.processes(1) as pool:
            assert pool.submit(has_imported, "pipeline.training.run").result()


def test_an_error_ends_them_and_the_next_ones_are_new():
    def fail(workers):
        with workers.processes(1) as pool:
            raise LookupError(processes(pool))

    with ReusablePool() as workers:
        with pytest.raises(LookupError) as error:
            fail(workers)
        (first,) = error.value.args
        with workers.processes(1) as pool:
            assert not processes(pool) & first


def test_runs_continue_after_an_idle_process_died(tmp_path):
    runs, monitor = folders(tmp_path, 3), RecordingMonitor()
    with ReusablePool() as workers:
        with workers.processes(2) as pool:
            os.kill(processes(pool).pop(), signal.SIGKILL)
        time.sleep(0.5)
        worker_processes.WorkerProcessExecutor(workers, 2).execute(runs, monitor)
    assert sorted(key.fold for key in monitor.finished) == [0, 1, 2]
    assert len(monitor.messages) == 1
    assert "a worker process died" in monitor.messages[0]
