import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from pipeline.records.folder import RunFolder, RunKey
from pipeline.study import executor
from pipeline.study.workers import Workers


def process_id():
    time.sleep(0.1)
    return os.getpid()


def processes(pool):
    return {job.result() for job in [pool.submit(process_id) for _ in range(8)]}


def write_record(settings, folder):
    folder.record.write_text("{}", encoding="utf-8")


def folders(root, count):
    found = []
    for fold in range(count):
        folder = RunFolder(root / str(fold), RunKey("dice", fold, 0))
        folder.root.mkdir()
        found.append((SimpleNamespace(), folder))
    return found


def test_processes_are_kept_while_as_many_are_asked_for():
    with Workers() as workers:
        with workers.pool(1) as pool:
            first = processes(pool)
        with workers.pool(1) as pool:
            assert processes(pool) == first
        with workers.pool(2) as pool:
            assert not processes(pool) & first


def has_imported(name):
    return name in sys.modules


def test_processes_begun_early_have_imported_what_a_run_needs():
    with Workers() as workers:
        workers.begin(1)
        with workers.pool(1) as pool:
            assert pool.submit(has_imported, "pipeline.training.run").result()


def test_an_error_ends_them_and_the_next_ones_are_new():
    def fail(workers):
        with workers.pool(1) as pool:
            raise LookupError(processes(pool))

    with Workers() as workers:
        with pytest.raises(LookupError) as error:
            fail(workers)
        (first,) = error.value.args
        with workers.pool(1) as pool:
            assert not processes(pool) & first


def test_runs_go_on_after_a_process_died_with_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "_run", write_record)
    runs, said, done = folders(tmp_path, 3), [], []
    with Workers() as workers:
        with workers.pool(2) as pool:
            os.kill(processes(pool).pop(), signal.SIGKILL)
        time.sleep(0.5)
        executor.run_locally(runs, 2, lambda *step: None, done.append, say=said.append, workers=workers)
    assert sorted(key.fold for key in done) == [0, 1, 2]
    assert len(said) == 1
    assert "a worker process died" in said[0]
