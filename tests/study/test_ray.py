"""Runs as Ray tasks: workers and nodes that die, lack of memory, nodes that do not see the shared files."""

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import scheduled_runs
from recording_monitor import RecordingMonitor
from scheduled_runs import StandInTrainer, scheduled_run
from tiny_dataset import make_tiny_dataset

from pipeline.errors import ConfigError, RecordError, TrainingError
from pipeline.records.folder import StudyFolder
from pipeline.records.study import run_folders
from pipeline.study.executors import ray as ray_executor
from pipeline.study.executors.ray import RayExecutor
from pipeline.study.progress import SilentProgress
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.system.ray_cluster import ray_connection

pytest.importorskip("ray")
from ray import cloudpickle

# Workers cannot import the modules of the tests.
cloudpickle.register_pickle_by_value(scheduled_runs)
TIMES = ("seconds", "training_seconds")


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield started
    started.shutdown()


@pytest.fixture
def runs(tmp_path):
    trainer = StandInTrainer()
    return [scheduled_run(tmp_path / "runs" / "dice" / f"fold{fold}_seed0", fold, trainer) for fold in range(3)]


@pytest.fixture
def carried(cluster, runs):
    """Carry out three runs as `does` decides by fold and attempt; return messages, finished runs and the error.

    `does` runs in a worker: it is a closure, which travels by value.
    """

    def carry(does):
        def carry_out(scheduled, progress, at):
            key, folder = scheduled.key, scheduled.folder.root
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "begun").open("a") as stream:
                stream.write("+")
            does(key.fold, len((folder / "begun").read_text()))
            (folder / "run.json").write_text("{}")

        monitor = RecordingMonitor()
        runs[0].folder.root.parents[1].mkdir(exist_ok=True)
        try:
            RayExecutor(2, cluster.address, carry_out).execute(runs, monitor)
        except Exception as error:
            return monitor.messages, monitor.finished, error
        return monitor.messages, monitor.finished, None

    return carry


def begun(runs):
    return [len((folder.root / "begun").read_text()) for folder in (run.folder for run in runs) if folder.root.exists()]


def test_a_run_whose_worker_is_killed_is_given_to_another_and_no_other_is_done_twice(carried, runs):
    def does(fold, time):
        if fold == 1 and time == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    said, done, error = carried(does)
    assert error is None
    assert said == ["dice s0 f1: its worker or node was lost; continuing from the last checkpoint on another"]
    assert sorted(key.fold for key in done) == [0, 1, 2]
    assert begun(runs) == [1, 2, 1]


def test_a_run_that_always_kills_its_worker_ends_the_study_after_four_of_them(carried, runs):
    def does(fold, time):
        if fold == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    said, _, error = carried(does)
    assert type(error) is TrainingError
    assert str(error) == "dice s0 f0: lost its worker 4 times; repeat the command, which continues the study"
    assert len(said) == 3
    assert begun(runs)[0] == 4


def test_a_run_without_memory_is_tried_once_more_alone_at_the_end(carried, runs):
    def does(fold, time):
        if fold == 0:
            raise MemoryError

    said, done, error = carried(does)
    assert said == ["dice s0 f0: ran out of memory; it is retried at the end, alone on a node"]
    assert sorted(key.fold for key in done) == [1, 2]
    assert type(error) is TrainingError
    assert "ran out of memory twice, the second time alone on a node" in str(error)
    assert "or start a new --out with less --memory" in str(error)
    assert begun(runs) == [2, 1, 1]


def test_an_error_of_a_run_comes_back_as_it_is_and_is_not_tried_again(carried, runs):
    def does(fold, time):
        raise RecordError("/study/run.json", "cannot be read", "remove it")

    _, done, error = carried(does)
    assert type(error) is RecordError
    assert str(error) == "/study/run.json: cannot be read; remove it"
    assert done == []


def test_a_record_that_is_not_visible_here_is_reported_as_not_shared(cluster, runs, monkeypatch):
    monkeypatch.setattr(ray_executor, "VISIBLE_WITHIN_S", 0.0)
    runs[0].folder.root.parents[1].mkdir(exist_ok=True)

    def writes_nothing(scheduled, progress, at):
        return None

    with pytest.raises(ConfigError, match="on a file system that all nodes share"):
        RayExecutor(2, cluster.address, writes_nothing).execute(runs, RecordingMonitor())


def test_a_node_that_does_not_see_the_data_is_named_before_any_run(cluster, runs):
    runs[0].folder.root.parents[1].mkdir(exist_ok=True)
    runs[0].trainer.shared_paths = (Path("/nowhere/prepared"),)
    with pytest.raises(ConfigError, match="does not see /nowhere/prepared; mount it at the same path on every node"):
        RayExecutor(2, cluster.address).execute(runs, RecordingMonitor())


def test_a_cluster_that_does_not_answer_is_one_line():
    with pytest.raises(ConfigError, match=r"--address 127.0.0.1:9: no Ray cluster answers"):
        RayExecutor(1, "127.0.0.1:9").execute([scheduled_run(Path("run"), 0)], RecordingMonitor())


def test_signal_handlers_of_the_command_stay(cluster):
    before = signal.getsignal(signal.SIGTERM)
    with ray_connection(cluster.address, 1):
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_run_that_the_memory_monitor_ends_is_reported_and_retried_once(runs):
    from ray.cluster_utils import Cluster

    def waits(scheduled, progress, at):
        time.sleep(300)

    everything_is_too_much = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}
    node = {"num_cpus": 1, "include_dashboard": False, "_system_config": everything_is_too_much}
    started = Cluster(initialize_head=True, head_node_args=node)
    runs[0].folder.root.parents[1].mkdir(exist_ok=True)
    monitor = RecordingMonitor()
    try:
        with pytest.raises(TrainingError, match="ran out of memory twice"):
            RayExecutor(1, started.address, waits).execute(runs[:1], monitor)
    finally:
        started.shutdown()
    assert monitor.messages == ["dice s0 f0: ran out of memory; it is retried at the end, alone on a node"]


def tiny(plan):
    return dataclasses.replace(
        plan,
        patch=(16,) * 3,
        window=None,
        channels=(4, 8, 8),
        strides=((2,) * 3,) * 2,
        stem=(1,) * 3,
        metrics=("dice",),
    )


class KillsANode(SilentProgress):
    """Kills a node, its raylet and its workers, once a run is in training there."""

    def __init__(self, cluster, node, study):
        self.cluster, self.node, self.study = cluster, node, study
        self.messages, self.finished = [], []

    def message(self, text):
        self.messages.append(text)

    def run_step(self, key, stage, done, total):
        if stage == "training" and done < total and self.node is not None and self._is_there(key):
            node, self.node = self.node, None
            self.cluster.remove_node(node, allow_graceful=False)

    def _is_there(self, key):
        """Whether the process that holds the run's lock is a worker of the node."""
        worker = (self.study.run(key).root / ".lock").read_text().split()[1]
        (raylet,) = self.node.all_processes["raylet"]
        return psutil.Process(int(worker)).ppid() == raylet.process.pid

    def run_finished(self, key, record):
        self.finished.append(key)


@pytest.mark.slow
def test_a_node_killed_midway_loses_nothing_doubles_nothing_and_leaves_the_bytes_of_a_local_study(tmp_path):
    from ray.cluster_utils import Cluster

    request = StudyRequest(
        dataset=make_tiny_dataset(tmp_path / "balls", cases=4),
        out=tmp_path / "local",
        losses="dice",
        folds=2,
        budget="80steps",
        learning_rates=(0.01,),
        jobs=1,
        precision="float32",
        part=(0, 1),
    )
    run_study(request, adjust_plan=tiny, in_process=True)
    shutil.copytree(tmp_path / "local", tmp_path / "by_ray")
    request = dataclasses.replace(request, part=None)
    local = run_study(request, adjust_plan=tiny, in_process=True)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    progress = KillsANode(cluster, cluster.add_node(num_cpus=1), StudyFolder(tmp_path / "by_ray"))
    try:
        by_ray = dataclasses.replace(request, out=tmp_path / "by_ray", executor="ray", address=cluster.address)
        other = run_study(by_ray, progress, adjust_plan=tiny)
    finally:
        cluster.shutdown()
    assert progress.node is None, "no node was killed: the runs were too short"
    assert sum("its worker or node was lost" in line for line in progress.messages) == 1
    assert sorted(progress.finished) == sorted(run.key for run in run_folders(local))
    assert other.cases.read_bytes() == local.cases.read_bytes()
    for run in run_folders(local):
        twin = other.run(run.key)
        names = sorted(path.relative_to(run.root) for path in run.root.rglob("*") if path.is_file())
        assert sorted(path.relative_to(twin.root) for path in twin.root.rglob("*") if path.is_file()) == names
        for name in names:
            if name.name not in ("run.json", "events.jsonl", ".lock"):
                assert (twin.root / name).read_bytes() == (run.root / name).read_bytes(), name
        assert without_times(twin.record.read_text()) == without_times(run.record.read_text())
        ours, theirs = (
            [without_times(line) for line in one.events.read_text().splitlines() if '"system"' not in line]
            for one in (run, twin)
        )
        assert theirs == ours


def without_times(line):
    return {name: value for name, value in json.loads(line).items() if name not in TIMES}
