import os
import time

import pytest

from pipeline.processes import worker_pool
from pipeline.study.gpus import take_turn, turns
from pipeline.study.machine import most_steps


def trials_of(step_seconds, limit=8):
    """Trials of a machine on which one step takes so long, by runs at once; beyond the limit there is no memory."""

    def timed(jobs):
        if jobs > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [("bfloat16", "faster", step_seconds[jobs])] * jobs

    return timed


def test_as_many_runs_at_once_as_each_make_more_steps_a_second():
    assert most_steps([1, 2, 4], trials_of({1: 0.1, 2: 0.12, 4: 0.2}))[0] == 4
    assert most_steps([1, 2, 4], trials_of({1: 0.1, 2: 0.12, 4: 0.23}))[0] == 2
    assert most_steps([1, 2, 4], trials_of({1: 0.1, 2: 0.2, 4: 0.2}))[0] == 1


def test_the_slowest_of_the_trials_counts():
    slow = {1: [("float32", "", 0.1)], 2: [("float32", "", 0.1), ("float32", "", 0.3)]}
    assert most_steps([1, 2], slow.__getitem__) == (1, slow[1])


def test_runs_that_have_no_memory_together_are_not_begun_together():
    jobs, trials = most_steps([1, 2, 4], trials_of({1: 0.1, 2: 0.1}, limit=2))
    assert (jobs, len(trials)) == (2, 2)


def test_a_machine_that_does_not_hold_one_run_says_so():
    with pytest.raises(RuntimeError, match="out of memory"):
        most_steps([1, 2], trials_of({}, limit=0))


def test_another_error_is_not_taken_for_want_of_memory():
    def timed(jobs):
        if jobs > 1:
            raise RuntimeError("device-side assert triggered")
        return [("float32", "", 0.1)]

    with pytest.raises(RuntimeError, match="assert"):
        most_steps([1, 2], timed)


def seen_gpu():
    time.sleep(0.1)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(("gpus", "expected"), [(("3", "5"), {"3", "5"}), ((), {None})])
def test_processes_of_a_pool_take_gpus_in_turn(gpus, expected, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with worker_pool(2, take_turn, turns(), gpus) as pool:
        found = {}
        while len(found) < 2:
            found |= dict(job.result() for job in [pool.submit(seen_gpu) for _ in range(20)])
    assert set(found.values()) == expected
