import time

import pytest

from pipeline.study.executors.gpu_sharing import least_used_gpu, new_user_counts
from pipeline.study.machine import Trial, fastest_job_count, job_counts
from pipeline.system.worker_pool import worker_pool


def trials_of(step_seconds, limit=8):
    """Trials of a machine on which one step takes so long, by runs at once; beyond the limit there is no memory."""

    def timed(jobs):
        if jobs > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [Trial("bfloat16", "faster", step_seconds[jobs])] * jobs

    return timed


def test_runs_at_once_are_added_while_they_make_more_steps_per_second():
    assert fastest_job_count([1, 2, 4], trials_of({1: 0.1, 2: 0.12, 4: 0.2}))[0] == 4
    assert fastest_job_count([1, 2, 4], trials_of({1: 0.1, 2: 0.12, 4: 0.23}))[0] == 2
    assert fastest_job_count([1, 2, 4], trials_of({1: 0.1, 2: 0.2, 4: 0.2}))[0] == 1


def test_the_slowest_of_the_trials_counts():
    slow = {1: [Trial("float32", "", 0.1)], 2: [Trial("float32", "", 0.1), Trial("float32", "", 0.3)]}
    assert fastest_job_count([1, 2], slow.__getitem__) == (1, slow[1])


def test_runs_that_do_not_fit_in_memory_together_are_not_started_together():
    jobs, trials = fastest_job_count([1, 2, 4], trials_of({1: 0.1, 2: 0.1}, limit=2))
    assert (jobs, len(trials)) == (2, 2)


def test_a_machine_without_memory_for_one_run_raises():
    with pytest.raises(RuntimeError, match="out of memory"):
        fastest_job_count([1, 2], trials_of({}, limit=0))


def test_another_error_is_not_taken_for_lack_of_memory():
    def timed(jobs):
        if jobs > 1:
            raise RuntimeError("device-side assert triggered")
        return [Trial("float32", "", 0.1)]

    with pytest.raises(RuntimeError, match="assert"):
        fastest_job_count([1, 2], timed)


_users = None


def begin(users):
    global _users
    _users = users


def seen_gpu(seconds):
    with least_used_gpu(_users) as gpu:
        time.sleep(seconds)
        return gpu


def test_runs_at_once_spread_over_the_gpus():
    with worker_pool(4, begin, new_user_counts(2)) as pool:
        long = [pool.submit(seen_gpu, 2.0) for _ in range(4)]
        assert sorted(job.result() for job in long) == [0, 0, 1, 1]
        alone = [pool.submit(seen_gpu, 0.0).result() for _ in range(3)]
    assert alone == [0, 0, 0]


def test_a_run_that_fails_leaves_its_gpu_to_others():
    users = new_user_counts(2)

    def fail():
        with least_used_gpu(users):
            raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            fail()
    assert list(users) == [0, 0]


@pytest.mark.parametrize("users", [new_user_counts(0), None])
def test_without_a_gpu_no_gpu_is_assigned(users):
    with least_used_gpu(users) as gpu:
        assert gpu is None


def test_candidate_numbers_of_runs_at_once(monkeypatch):
    monkeypatch.setattr("pipeline.study.machine.available_cores", lambda: 8)
    monkeypatch.setattr("pipeline.study.machine.visible_gpus", lambda: 0)
    assert job_counts(15, None) == [8]
    assert job_counts(3, None) == [3]
    assert job_counts(15, 2) == [2]
    monkeypatch.setattr("pipeline.study.machine.visible_gpus", lambda: 2)
    assert job_counts(15, None) == [2, 4, 8]
    assert job_counts(3, None) == [2, 3]
