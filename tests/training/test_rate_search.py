import json
from dataclasses import replace

import pytest

from pipeline.losses import parse_losses
from pipeline.records.events import read_events
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.rate_search import RateSearch
from pipeline.training.learning_rate import default_rate
from pipeline.training.rate_search import delete_search_progress, find_rate, recorded_search
from pipeline.training.settings import RunSettings

RATES = (0.003, 0.024)


@pytest.fixture
def settings(plan, prepared):
    return RunSettings(
        loss=parse_losses("dice")[0],
        fold=0,
        seed=0,
        plan=plan,
        classes={1: "ball"},
        class_voxels=(10_000, 250),
        training=prepared,
        patients=tuple(case.id for case in prepared),
        validation=(),
        originals={},
        steps=80,
        precision="float32",
        learning_rates=RATES,
    )


def folder_of(tmp_path, name):
    folder = RunFolder(tmp_path / name, RunKey(name, 0, 0))
    folder.root.mkdir()
    return folder


def silent(stage, done, of):
    pass


def test_a_search_is_recorded_with_its_trial_trainings_and_is_the_same_bit_for_bit(settings, tmp_path):
    folder = folder_of(tmp_path, "first")
    found = find_rate(settings, folder, silent)
    assert found.rule == "best"
    assert sorted(trial.learning_rate for trial in found.last_round) == sorted(RATES)
    (event,) = read_events(folder.events)
    assert event.kind == "learning_rate_search"
    assert RateSearch.from_json(event.to_json()) == found == recorded_search(settings, folder)
    assert find_rate(settings, folder_of(tmp_path, "again"), silent) == found


def test_a_stopped_search_continues_with_the_scores_that_it_has(settings, tmp_path):
    folder, stages = folder_of(tmp_path, "run"), []
    found = find_rate(settings, folder, silent)
    assert find_rate(settings, folder, lambda *stage: stages.append(stage)) == found
    assert stages == []
    delete_search_progress(folder)
    assert [path.name for path in folder.root.iterdir()] == ["events.jsonl"]


def test_an_arm_that_learns_nothing_is_tried_longer_and_falls_back_to_the_default(settings, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    constant = replace(settings, loss=parse_losses("never_learns:Constant")[0], steps=40)
    found = find_rate(constant, folder_of(tmp_path, "constant"), silent)
    assert (found.chosen, found.rule) == (default_rate(RATES), "fallback")
    assert [trial.steps for trial in found.trials] == [20, 20, 40, 40]


def test_one_given_rate_needs_no_search(settings, tmp_path):
    folder = folder_of(tmp_path, "given")
    single = replace(settings, learning_rates=(0.01,))
    assert find_rate(single, folder, silent) == RateSearch(0.01, "given", None, ()) == recorded_search(single, folder)
    assert not folder.events.exists()


def test_a_search_of_a_version_without_a_rule_is_not_read():
    old = {"steps": 20, "candidates": [{"learning_rate": 0.003, "score": 0.0}], "chosen": 0.003}
    assert RateSearch.from_json(json.loads(json.dumps(old))) is None
    assert RateSearch.from_json(None) is None
