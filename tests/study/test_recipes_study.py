"""Several recipes in one folder: shared cases and folds, one study each, continued, extended and reported."""

import dataclasses
import json

import pytest
from tiny_dataset import make_tiny_dataset

from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.recipes import RecipesFolder
from pipeline.records.run import read_traces
from pipeline.records.study import read_study
from pipeline.records.table import read_table
from pipeline.report.build import build_report
from pipeline.report.recipes import build_recipes
from pipeline.study import recipes as recipes_module
from pipeline.study.progress import SilentProgress
from pipeline.study.recipe_names import parse_recipes
from pipeline.study.recipes import run_recipes
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.study.sweep_levels import small_network

CHANNELS = {"fast": (8, 16, 32), "narrow": (4, 8, 16), "third": (6, 8, 16)}
"""Features of the network that stands for each recipe."""


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def stub_recipes(monkeypatch):
    """Let the name of a recipe choose the features of a small network."""

    def run(request, *arguments, **settings):
        def adjust(plan):
            small = small_network(plan)
            channels = CHANNELS[request.out.name][: len(small.channels)]
            return dataclasses.replace(small, channels=channels)

        # The stub leaves the request of the engine as it is: these recipes exist in this test alone.
        known = dataclasses.replace(request, recipe="fast")
        return run_study(known, *arguments, adjust_plan=adjust, **settings | {"in_process": True})

    monkeypatch.setattr(recipes_module, "run_study", run)


def request_of(data, out, **settings):
    tiny = {"losses": "ce,dice", "folds": 2, "budget": "10steps", "learning_rates": (0.01,), "jobs": 1}
    return StudyRequest(dataset=data, out=out, keep_predictions=False, track=False, **(tiny | settings))


def report(folder, study):
    build_report(study)
    build_recipes(folder)


def run_times(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("run.json")}


@pytest.mark.usefixtures("stub_recipes")
def test_recipes_are_killed_continued_and_extended(tmp_path):
    data, out = make_tiny_dataset(tmp_path / "data", cases=4), tmp_path / "out"
    finished = []

    class DiesAtTheSixthRun(SilentProgress):
        def run_finished(self, key, record):
            finished.append(key)
            if len(finished) == 6:
                raise Killed

    with pytest.raises(Killed):
        run_recipes(request_of(data, out), ["fast", "narrow"], DiesAtTheSixthRun(), on_study=report)
    folder = RecipesFolder(out)
    before = run_times(out)
    assert len(before) == 6
    assert folder.study("fast").verdict.exists()
    assert json.loads(folder.verdict.read_text())["waiting"] == ["narrow"]

    run_recipes(request_of(data, out), ["fast", "narrow"], on_study=report)
    assert len(run_times(out)) == 8
    assert {path: run_times(out)[path] for path in before} == before
    assert folder.study("fast").folds.read_bytes() == folder.study("narrow").folds.read_bytes()
    # The prepared cases are shared: each of the four is there once, and none inside a study.
    assert not list((out / "studies").glob("*/prepared/*"))
    table = read_table(folder.table)
    assert table.columns[0] == "recipe"
    dice = table[table["metric"] == "dice"]
    assert dice.groupby(["recipe", "loss"])["case"].nunique().to_dict() == {
        (recipe, loss): 4 for recipe in ("fast", "narrow") for loss in ("ce", "dice")
    }

    before = run_times(out)
    run_recipes(request_of(data, out), ["third"], on_study=report)
    assert folder.read_record().recipes == ("fast", "narrow", "third")
    assert {path: run_times(out)[path] for path in before} == before
    verdict = json.loads(folder.verdict.read_text())
    assert [item["recipe"] for item in verdict["recipes"]] == ["fast", "narrow", "third"]
    assert len([pair for pair in verdict["pairs"] if pair["metric"] == "dice"]) == 3

    with pytest.raises(RecordError, match="budget 10steps → 11steps"):
        run_recipes(request_of(data, out, budget="11steps"), ["fast", "narrow"])


@pytest.mark.parametrize(("text", "says"), [("fast,", "is not a list of names"), ("fast,fast", "names a recipe twice")])
def test_wrong_lists_of_recipes_are_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_recipes(text)


def test_recipes_share_initial_weights_and_batches_but_not_the_optimizer(tmp_path):
    data = make_tiny_dataset(tmp_path / "data")
    request = request_of(data, tmp_path / "out", losses="dice", learning_rates=(0.003,))
    folder = run_recipes(request, ["fast", "adamw"], in_process=True)
    fast, adamw = (folder.study(name) for name in ("fast", "adamw"))
    assert (read_study(fast).optimizer, read_study(adamw).optimizer) == ("Muon and AdamW", "adamw")
    assert (read_study(fast).request.recipe, read_study(adamw).request.recipe) == (None, "adamw")
    for run, other in zip(read_traces(fast), read_traces(adamw), strict=True):
        assert run.record.initial_weights_hash == other.record.initial_weights_hash
        assert run.record.feed_hash == other.record.feed_hash
        assert run.record.weights_hash != other.record.weights_hash


def test_an_unknown_recipe_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="--recipes slow: is an unknown recipe"):
        run_study(request_of(tmp_path / "absent", tmp_path / "out", recipe="slow"))
    assert not (tmp_path / "out").exists()


def test_nnunet_takes_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="--recipes: has no effect with --trainer nnunet"):
        StudyRequest(dataset=tmp_path, out=tmp_path, trainer="nnunet", recipe="adamw")


def test_a_study_of_a_single_recipe_does_not_become_a_folder_of_several(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(RecordError, match="holds a study of a single recipe"):
        run_recipes(request_of(tmp_path, tmp_path), ["fast", "narrow"])
    assert not (tmp_path / "recipes.json").exists()


@pytest.fixture
def recorded(monkeypatch):
    """Replace `run_study` by a function that writes a study without runs, and record its requests."""
    requests = []

    def run(request, progress=None, on_begin=None, **settings):
        requests.append(request)
        folder = StudyFolder(request.out)
        folder.root.mkdir(parents=True, exist_ok=True)
        if request.recipe == "unfit":
            raise ConfigError("recipe unfit", "does not fit", "use another")
        folder.folds.write_text("other" if request.recipe == "other" else "folds")
        folder.settings.write_text("{}")
        return folder

    monkeypatch.setattr(recipes_module, "run_study", run)
    return requests


def test_all_studies_are_created_before_the_first_training_and_share_a_cache(tmp_path, recorded):
    run_recipes(request_of(tmp_path, tmp_path / "out"), ["fast", "adamw"])
    assert [(one.recipe, one.part) for one in recorded] == [
        ("fast", (0, 1)),
        ("adamw", (0, 1)),
        ("fast", None),
        ("adamw", None),
    ]
    assert {one.cache for one in recorded} == {tmp_path / "out" / "prepared"}
    assert [one.out.name for one in recorded] == ["fast", "adamw"] * 2
    recorded.clear()
    run_recipes(request_of(tmp_path, tmp_path / "out", cache=tmp_path / "cache"), ["fast", "adamw"])
    assert [(one.recipe, one.cache) for one in recorded] == [(name, tmp_path / "cache") for name in ("fast", "adamw")]


def test_parts_are_parts_of_every_study(tmp_path, recorded):
    seen = []
    for part in ((0, 2), (1, 2), (2, 2), None):
        request = request_of(tmp_path, tmp_path / "out", part=part)
        run_recipes(request, ["fast", "adamw"], on_study=lambda folder, study: seen.append(study.root.name))
    trained = [(one.recipe, one.part) for one in recorded if one.part != (0, 1)]
    assert trained == [(name, part) for part in ((1, 2), (2, 2), None) for name in ("fast", "adamw")]
    assert seen == ["fast", "adamw"]


def test_a_recipe_that_does_not_fit_is_refused_before_any_training(tmp_path, recorded):
    with pytest.raises(ConfigError, match="does not fit"):
        run_recipes(request_of(tmp_path, tmp_path / "out"), ["fast", "unfit"])
    assert [one.part for one in recorded] == [(0, 1), (0, 1)]
    assert not (tmp_path / "out" / "recipes.json").exists()


@pytest.mark.usefixtures("recorded")
def test_recipes_with_other_folds_are_refused_before_any_training(tmp_path):
    with pytest.raises(RecordError, match="the cases or folds of other differ from those of fast"):
        run_recipes(request_of(tmp_path, tmp_path / "out"), ["fast", "other"])
