import os

from pipeline.inference.case_record import CaseRecord
from pipeline.inference.sources import find_jobs
from pipeline.inference.watching import Watch, watch


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def write(path, data, clock):
    path.write_bytes(data)
    os.utime(path, (clock.now, clock.now))


def watched(folder, clock):
    return Watch(lambda: find_jobs(folder, ("MR",)), 60.0, clock)


def test_a_file_is_returned_once_it_has_stopped_changing_and_only_once(tmp_path):
    clock = Clock()
    found = watched(tmp_path, clock)
    assert found.ready() == []
    write(tmp_path / "a.nii.gz", b"1", clock)
    assert found.ready() == []
    clock.now += 50
    write(tmp_path / "a.nii.gz", b"12", clock)
    assert found.ready() == []
    clock.now += 59
    assert found.ready() == []
    clock.now += 2
    assert [job.id for job in found.ready()] == ["a"]
    clock.now += 1000
    assert found.ready() == []


def test_a_copy_with_an_old_time_stamp_waits_as_well(tmp_path):
    clock = Clock()
    found = watched(tmp_path, clock)
    (tmp_path / "a.nii.gz").write_bytes(b"1")
    os.utime(tmp_path / "a.nii.gz", (1.0, 1.0))
    assert found.ready() == []
    clock.now += 61
    assert len(found.ready()) == 1


def test_a_file_that_changes_later_is_returned_again(tmp_path):
    clock = Clock()
    found = watched(tmp_path, clock)
    write(tmp_path / "a.nii.gz", b"1", clock)
    found.ready()
    clock.now += 61
    assert len(found.ready()) == 1
    write(tmp_path / "a.nii.gz", b"123", clock)
    assert found.ready() == []
    clock.now += 61
    assert len(found.ready()) == 1


def test_a_file_server_whose_clock_is_ahead_does_not_block(tmp_path):
    clock = Clock()
    found = watched(tmp_path, clock)
    (tmp_path / "a.nii.gz").write_bytes(b"1")
    os.utime(tmp_path / "a.nii.gz", (clock.now + 5000, clock.now + 5000))
    found.ready()
    clock.now += 61
    assert len(found.ready()) == 1


def test_watching_continues_until_it_is_stopped(tmp_path):
    clock = Clock()
    taken = []

    def sleep(seconds):
        clock.now += 61
        if len(taken) == 1 and not (tmp_path / "b.nii.gz").exists():
            write(tmp_path / "b.nii.gz", b"2", clock)

    def predict(jobs):
        taken.extend(job.id for job in jobs)
        return [CaseRecord(job.id, "", "", "done") for job in jobs]

    write(tmp_path / "a.nii.gz", b"1", clock)
    records = watch(watched(tmp_path, clock), predict, lambda: len(taken) == 2, sleep)
    assert taken == ["a", "b"]
    assert [record.case for record in records] == ["a", "b"]
