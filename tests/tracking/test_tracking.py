import json
import os
import shutil
import socket
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from small_study import DICE, LOSSES, begin_study, finish_run, whole_study, write_events

from pipeline.errors import RecordError
from pipeline.records.events import RestartEvent, TrainEvent, append_event
from pipeline.records.scope import Scope, Slope
from pipeline.records.verdict import Verdict
from pipeline.system.folder_lock import exclusive
from pipeline.tracking.mirror import Mirror, default_uri, mirror_study, tracking_uri


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """Tables made once: MLflow takes seconds for them."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_database, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "server.db")
    return f"sqlite:///{tmp_path / 'server.db'}"


def runs_of(uri, study_id=None):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return {
        run.data.tags["whichloss.run_key"]: run
        for run in runs
        if study_id in (None, run.data.tags["whichloss.study_id"])
    }


def histories(uri, run):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}


def duplicates(uri):
    """Return the (run, key, step) that have more than one value."""
    counted = Counter(
        (key, name, metric.step)
        for key, run in runs_of(uri).items()
        for name, history in histories(uri, run).items()
        for metric in history
    )
    return [item for item, count in counted.items() if count > 1]


def test_runs_of_a_study_are_one_parent_one_summary_per_loss_and_one_child_per_run(tmp_path, uri):
    result = mirror_study(whole_study(tmp_path / "study"), uri)
    runs = runs_of(uri)
    children = {f"run/{loss}/{fold}/0" for loss in LOSSES for fold in range(2)}
    assert set(runs) == {"study", *(f"summary/{loss}" for loss in LOSSES), *children}
    assert result.created_runs == len(runs)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    child = runs[f"run/{LOSSES[0]}/1/0"]
    assert child.info.run_name == "dice_ce s0 f1"
    assert child.data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert child.info.end_time - child.info.start_time == 12_000
    assert child.data.params["learning_rate"] == "0.01"
    assert runs["study"].data.params["optimizer"] == "Muon and AdamW"
    assert child.data.metrics["best/dice"] == child.data.metrics["final/dice"] == DICE[LOSSES[0]]
    assert child.data.metrics["system/memory_mb"] == 512
    assert child.data.metrics["counts/val/missed"] == 1
    assert "mlflow.parentRunId" not in runs[f"summary/{LOSSES[0]}"].data.tags


def test_a_study_that_was_mirrored_with_tags_of_the_earlier_name_is_continued(tmp_path, uri):
    """Only tags are added: no run and no point is logged twice."""
    study = whole_study(tmp_path / "study")
    runs = mirror_study(study, uri).created_runs
    with closing(sqlite3.connect(tmp_path / "server.db")) as database, database:
        for table in ("tags", "experiment_tags"):
            database.execute(f"UPDATE {table} SET key = replace(key, 'whichloss.', 'segloss.')")
    again = mirror_study(study, uri)
    assert (again.created_runs, again.logged_points) == (0, 0)
    assert len(runs_of(uri)) == runs
    assert not duplicates(uri)


def test_the_runs_table_alone_compares_the_losses(tmp_path, uri):
    mirror_study(whole_study(tmp_path / "study"), uri)
    runs = runs_of(uri)
    for loss in LOSSES:
        metrics = runs[f"summary/{loss}"].data.metrics
        assert metrics["dice"] == pytest.approx(DICE[loss])
        assert metrics["hausdorff_mm"] == pytest.approx(4.5)
        assert metrics["hausdorff95_mm"] == pytest.approx(2.0)
        assert metrics["per_class/tail _left_/dice"] == pytest.approx(DICE[loss])
        assert metrics["states/ok"] == 8
        assert metrics["val/dice"] == pytest.approx(DICE[loss])


def test_curves_have_a_step_axis_and_times_of_the_training(tmp_path, uri):
    mirror_study(whole_study(tmp_path / "study"), uri)
    run = runs_of(uri)[f"run/{LOSSES[0]}/0/0"]
    history = histories(uri, run)["val/dice"]
    assert [metric.step for metric in history] == [20, 40]
    assert [metric.timestamp - run.info.start_time for metric in history] == [5_000, 10_000]


def test_no_non_finite_metric_reaches_mlflow(tmp_path, uri):
    mirror_study(whole_study(tmp_path / "study"), uri)
    for run in runs_of(uri).values():
        assert all(abs(value) < 1e300 for value in run.data.metrics.values())
        assert not [key for key in run.data.metrics if "gradient" in key or key == "val/hausdorff_mm"]


def test_a_second_synchronization_logs_nothing(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    first = mirror_study(study, uri)
    second = mirror_study(study, uri)
    assert first.logged_points > 0
    assert (second.created_runs, second.logged_points) == (0, 0)
    assert first.runs == second.runs
    assert duplicates(uri) == []


def test_a_synchronization_continues_where_the_last_one_ended(tmp_path, uri):
    study = begin_study(tmp_path / "study")
    write_events(study, LOSSES[0], 0, until=20)
    first = mirror_study(study, uri, live=True)
    assert runs_of(uri)[f"run/{LOSSES[0]}/0/0"].info.status == "RUNNING"
    finish_run(study, LOSSES[0], 0, since=20)
    second = mirror_study(study, uri)
    assert second.created_runs == 0
    assert first.runs.items() <= second.runs.items()
    assert duplicates(uri) == []
    run = runs_of(uri)[f"run/{LOSSES[0]}/0/0"]
    assert [metric.step for metric in histories(uri, run)["train/loss"]] == [10, 20, 30, 40]
    assert run.info.status == "FINISHED"
    assert runs_of(uri)["study"].info.status == "KILLED"


def test_many_synchronizations_and_one_give_the_same_runs(tmp_path, uri, empty_database):
    study = begin_study(tmp_path / "study")
    for loss, fold in ((LOSSES[1], 1), (LOSSES[0], 0), (LOSSES[1], 0), (LOSSES[0], 1)):
        finish_run(study, loss, fold)
        mirror_study(study, uri, live=True)
    whole = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'whole.db')}"
    mirror_study(study, whole)
    pieces = runs_of(uri)
    for key, run in runs_of(whole).items():
        seen, expected = (
            {name: [(m.step, m.value) for m in history] for name, history in histories(at, one).items()}
            for at, one in ((uri, pieces[key]), (whole, run))
        )
        assert seen == expected, key
        assert pieces[key].data.params == run.data.params


def test_a_restarted_run_shows_nothing_of_its_first_training(tmp_path, uri):
    study = begin_study(tmp_path / "study")
    run = write_events(study, LOSSES[0], 0, until=20)
    mirror_study(study, uri, live=True)
    append_event(run.events, RestartEvent(step=20, why="NaN in bfloat16"))
    append_event(run.events, TrainEvent(step=10, loss=7.0, learning_rate=0.01, seconds=3.0))
    mirror_study(study, uri, live=True)
    found = runs_of(uri)[f"run/{LOSSES[0]}/0/0"]
    assert [(m.step, m.value) for m in histories(uri, found)["train/loss"]] == [(10, 7.0)]


def test_additions_of_a_user_in_mlflow_survive(tmp_path, uri):
    from mlflow.tracking import MlflowClient

    study = begin_study(tmp_path / "study")
    write_events(study, LOSSES[0], 0, until=20)
    run_id = mirror_study(study, uri).runs[f"run/{LOSSES[0]}/0/0"]
    client = MlflowClient(tracking_uri=uri)
    client.log_metric(run_id, "my own", 1.0)
    client.set_tag(run_id, "seen by", "me")
    finish_run(study, LOSSES[0], 0, since=20)
    assert mirror_study(study, uri).runs[f"run/{LOSSES[0]}/0/0"] == run_id
    run = client.get_run(run_id)
    assert run.data.metrics["my own"] == 1.0
    assert run.data.tags["seen by"] == "me"


@pytest.mark.parametrize("shared", [False, True])
def test_four_studies_at_once_never_mix_runs(tmp_path, uri, monkeypatch, shared):
    if shared:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "all of them")
    studies = [begin_study(tmp_path / str(i), created=f"2026-01-02T03:04:0{i}+00:00") for i in range(4)]
    for until in (20, 40):
        for study in studies:
            write_events(study, LOSSES[0], 0, until=until, since=until - 20)
            mirror_study(study, uri, live=True)
    results = [mirror_study(study, uri) for study in studies]
    assert len({result.experiment_id for result in results}) == (1 if shared else 4)
    assert len({run_id for result in results for run_id in result.runs.values()}) == 4 * 4
    for result in results:
        runs = runs_of(uri, result.study_id)
        assert {key: run.info.run_id for key, run in runs.items()} == result.runs
        child = runs[f"run/{LOSSES[0]}/0/0"]
        assert child.data.tags["mlflow.parentRunId"] == result.runs["study"]
    assert duplicates(uri) == []


def test_names_of_cases_and_patients_and_paths_stay_in_the_study(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    mirror_study(study, uri)
    rows = repr([(run.data.to_dictionary(), run.inputs.to_dictionary()) for run in runs_of(uri).values()])
    files = [path for path in tmp_path.rglob("artifacts/**/*") if path.is_file()]
    assert {path.name for path in files} >= {"config.json", "run.json", "cases.csv", "curves.svg", "checkpoint.pt"}
    texts = rows + "".join(path.read_bytes().decode("latin-1") for path in files)
    assert "miller" not in texts.lower()
    assert str(study.root) not in texts


def test_each_run_names_the_cases_it_was_trained_and_validated_with(tmp_path, uri):
    mirror_study(whole_study(tmp_path / "study"), uri)
    inputs = runs_of(uri)[f"run/{LOSSES[0]}/0/0"].inputs.dataset_inputs
    used = {each.tags[0].value: set(json.loads(each.dataset.source)["cases"]) for each in inputs}
    assert set(used) == {"training", "validation"}
    assert len(used["training"]) == len(used["validation"]) == 2
    assert not used["training"] & used["validation"]


def test_artifacts_of_the_study_are_report_verdict_and_settings(tmp_path, uri):
    from mlflow.tracking import MlflowClient

    result = mirror_study(whole_study(tmp_path / "study"), uri)
    client = MlflowClient(tracking_uri=uri)
    names = {item.path for item in client.list_artifacts(result.runs["study"])}
    assert names == {"config.json", "verdict.json", "report.html"}
    tags = runs_of(uri)["study"].data.tags
    assert (tags["whichloss.verdict"], tags["whichloss.recommended"]) == ("winner", LOSSES[0])


def test_the_runs_of_study_and_losses_name_the_scope_of_the_verdict(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    settings = json.loads(study.settings.read_text()) | {"optimizer": "Muon and AdamW", "schedule": "one cycle"}
    settings["plan"] = {"channels": [16, 32], "patch": [24, 28, 20], "batch": 2}
    study.settings.write_text(json.dumps(settings))
    slope = Slope(loss=LOSSES[0], metric="dice", change=0.02, runs=2)
    scope = Scope(steps=40, optimizer="Muon and AdamW", slopes=(slope,))
    verdict = Verdict(verdict="inconclusive", recommended=None, primary="dice", replicated=False, scope=scope)
    study.verdict.write_text(json.dumps(verdict.to_json()))
    assert len(scope.words) == 2
    mirror_study(study, uri)
    runs = runs_of(uri)
    for key in ("study", f"summary/{LOSSES[0]}"):
        note = runs[key].data.tags["mlflow.note.content"]
        assert all(sentence in note for sentence in scope.words)
        assert runs[key].data.params["optimizer"] == "Muon and AdamW"
    assert "Verdict: **none**, each loss was trained once" in runs["study"].data.tags["mlflow.note.content"]
    assert (runs["study"].data.params["epochs"], runs["study"].data.params["channels"]) == ("40", "16, 32")


def test_a_study_without_a_verdict_yet_names_the_scope_of_its_settings(tmp_path, uri):
    study = begin_study(tmp_path / "study")
    mirror_study(study, uri)
    steps = json.loads(study.settings.read_text())["budget"]["steps"]
    note = runs_of(uri)["study"].data.tags["mlflow.note.content"]
    assert f"This holds for trainings like these: {steps} steps" in note


def test_a_server_that_does_not_answer_costs_seconds_and_the_mirror_is_complete_later(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        started = time.monotonic()
        result = mirror_study(study, dead)
    assert not result.reached
    assert time.monotonic() - started < 20
    assert "whichloss track" in (result.warning(study) or "")
    assert "\n" not in (result.warning(study) or "")
    assert mirror_study(study, uri).created_runs == 7


def test_a_server_that_dies_between_two_calls_logs_nothing_twice(tmp_path, uri, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    study = whole_study(tmp_path / "study")
    log_batch, calls = MlflowClient.log_batch, []

    def dies_after_the_call(self, *args, **kwargs):
        answer = log_batch(self, *args, **kwargs)
        calls.append(args)
        if len(calls) % 5 == 4:
            raise MlflowException("connection reset")
        return answer

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", dies_after_the_call)
        results = [mirror_study(study, uri) for _ in range(5)]
    assert not results[0].reached
    assert mirror_study(study, uri).reached
    assert duplicates(uri) == []
    assert len(runs_of(uri)) == 7


def test_only_one_process_mirrors_a_study(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    with exclusive(study.root / ".mirror"), pytest.raises(RecordError, match=f"process {os.getpid()}"):
        mirror_study(study, uri)


def test_a_study_that_was_moved_gets_a_new_database(tmp_path, uri, empty_database):
    study = whole_study(tmp_path / "study")
    shutil.copy(empty_database, study.root / "mlflow.db")
    assert mirror_study(study).uri == default_uri(study)
    study.root.rename(tmp_path / "elsewhere")
    moved = type(study)(tmp_path / "elsewhere")
    result = mirror_study(moved)
    assert result.created_runs == 7
    assert (moved.root / "mlflow.db.moved").exists()


def test_addresses_come_from_argument_then_environment_then_the_study(tmp_path, monkeypatch):
    study = begin_study(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(study) == f"sqlite:///{tmp_path / 'study' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(study) == "http://server:5000"
    assert tracking_uri(study, "sqlite:///x.db") == "sqlite:///x.db"


def test_a_mirror_process_follows_a_study_and_ends_with_it(tmp_path, uri):
    study = begin_study(tmp_path / "study")
    mirror = Mirror(study, uri)
    mirror.start()
    started = time.monotonic()
    write_events(study, LOSSES[0], 0, until=20)
    assert time.monotonic() - started < 2, "training waits for nobody"
    finish_run(study, LOSSES[0], 0, since=20)
    result = mirror.stop(within_s=60)
    assert result.reached
    run = runs_of(uri)[f"run/{LOSSES[0]}/0/0"]
    assert run.data.metrics["final/dice"] == DICE[LOSSES[0]]
    assert duplicates(uri) == []


def test_the_record_is_only_read(tmp_path, uri):
    study = whole_study(tmp_path / "study")
    before = {path: path.read_bytes() for path in Path(study.root).rglob("*") if path.is_file()}
    mirror_study(study, uri)
    after = {path: path.read_bytes() for path in Path(study.root).rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


def test_a_study_ends_with_one_line_where_mlflow_is_dead(tmp_path):
    study = whole_study(tmp_path / "study")
    messages = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        started = time.monotonic()
        result = Mirror(study, f"http://127.0.0.1:{closed.getsockname()[1]}").finish(messages.append)
    assert not result.reached
    assert messages == [result.warning(study)]
    assert "no answer from http://127.0.0.1" in messages[0]
    assert time.monotonic() - started < 30
