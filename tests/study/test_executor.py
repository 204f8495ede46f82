"""How many runs go on at once: as many as asked for, and at the end, where asked, those that are left beside them."""

from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pipeline.records.folder import RunFolder, RunKey
from pipeline.study import executor

RUN_S = 100.0


class Cores:
    """Cores that share their time equally among the runs that go on, each of which needs `RUN_S` of one core."""

    def __init__(self, cores):
        self.cores, self.now, self.counts, self.left = cores, 0.0, [], {}

    def monotonic(self):
        return self.now

    @contextmanager
    def pool(self, jobs):
        yield self

    def submit(self, work, settings, folder):
        future = Future()
        self.left[future] = (RUN_S, folder)
        return future

    def wait(self, going, **_):
        self.counts.append(len(going))
        rate = min(1.0, self.cores / len(going))
        first = min(going, key=lambda future: self.left[future][0])
        spent = self.left[first][0]
        self.now += spent / rate
        self.left = {future: (left - spent, folder) for future, (left, folder) in self.left.items()}
        _, folder = self.left.pop(first)
        folder.record.write_text("{}", encoding="utf-8")
        first.set_result(None)
        return {first}, set()


@pytest.fixture
def carried_out(tmp_path, monkeypatch):
    """Return how many runs went on whenever one was waited for, and the seconds of all."""

    def carry_out(count, jobs, share, free=2**40):
        runs, done, cores = [], [], Cores(jobs)
        for fold in range(count):
            folder = RunFolder(tmp_path / str(fold), RunKey("dice", fold, 0))
            folder.root.mkdir()
            runs.append((SimpleNamespace(), folder))
        child = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=2**30))
        monkeypatch.setattr(executor, "wait", cores.wait)
        monkeypatch.setattr(executor, "time", cores)
        monkeypatch.setattr(executor, "_drain", lambda messages, on_step: None)
        monkeypatch.setattr(executor.psutil, "Process", lambda: SimpleNamespace(children=lambda: [child]))
        monkeypatch.setattr(executor.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        workers = SimpleNamespace(pool=cores.pool, messages=None)
        executor.run_locally(runs, jobs, lambda *step: None, done.append, workers=workers, share=share)
        assert sorted(key.fold for key in done) == list(range(count))
        return cores.counts, cores.now

    return carry_out


@pytest.mark.parametrize(
    ("runs", "jobs", "counts"),
    [
        (5, 2, [2, 2, 3, 2, 1]),
        (4, 2, [2, 2, 2, 1]),
        (3, 2, [3, 2, 1]),
        (3, 1, [1, 1, 1]),
        (8, 3, [3, 3, 3, 5, 4, 3, 2, 1]),
    ],
)
def test_no_core_is_idle_at_the_end(runs, jobs, counts, carried_out):
    found, seconds = carried_out(runs, jobs, share=True)
    assert found == counts
    assert seconds == pytest.approx(RUN_S * runs / jobs)


def test_without_sharing_there_are_never_more_than_asked_for(carried_out):
    assert carried_out(5, 2, share=False) == ([2, 2, 2, 2, 1], 300)


@pytest.mark.parametrize(("gib", "most"), [(2, 3), (1.9, 2)])
def test_nothing_begins_beside_them_without_memory_for_twice_a_process(gib, most, carried_out):
    counts, _ = carried_out(5, 2, share=True, free=gib * 2**30)
    assert max(counts) == most
