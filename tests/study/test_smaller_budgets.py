"""A study whose runs are evaluated at several budgets."""

from dataclasses import replace

import pytest
from tiny_dataset import make_tiny_dataset

from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.run import read_run
from pipeline.records.study import read_study, run_folders
from pipeline.records.table import BUDGET_COLUMNS, read_table
from pipeline.study.progress import SilentProgress
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study


class Killed(Exception):
    """Stands for a kill of the process."""


class KillAt(SilentProgress):
    """Stop a study when a run reports a part of a stage."""

    def __init__(self, stage, done):
        self.at = (stage, done)

    def run_step(self, key, stage, done, total):
        if (stage, done) == self.at:
            raise Killed


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    return StudyRequest(
        dataset=make_tiny_dataset(tmp_path_factory.mktemp("data") / "balls", cases=4),
        out=tmp_path_factory.mktemp("study") / "out",
        losses="dice_ce",
        folds=2,
        budgets="10,20steps",
        learning_rates=(0.01,),
        precision="float32",
    )


@pytest.fixture(scope="module")
def study(request_):
    return run_study(request_, in_process=True)


def test_every_case_has_a_row_of_each_metric_at_each_budget(study):
    small, large = read_table(study.budgets), read_table(study.cases)
    assert tuple(small.columns) == BUDGET_COLUMNS
    assert set(small["steps"]) == {10}
    keys = ["loss", "fold", "seed", "case", "class", "metric"]
    assert small[keys].equals(large[keys])
    assert not small["value"].equals(large["value"])


def test_the_record_names_budgets_and_schedule(study):
    record = read_study(study)
    assert record.budget.evaluated == (10, 20)
    assert (record.budget.steps, record.budget.asked) == (20, "20steps")
    assert record.request.budgets == "10,20steps"
    assert record.schedule == "warm-up, constant, decay"


@pytest.mark.parametrize("at", [("training", 8), ("prediction", 1), ("training", 14)])
def test_a_stopped_study_ends_with_the_bytes_of_an_uninterrupted_one(study, request_, tmp_path, at):
    # A run takes 6 steps, 4 steps of the decay, and 14 steps more; prediction comes first after the decay.
    stopped = replace(request_, out=tmp_path / "out")
    with pytest.raises(Killed):
        run_study(stopped, KillAt(*at), in_process=True)
    finished = run_study(stopped, in_process=True)
    for file in ("budgets", "cases"):
        assert getattr(finished, file).read_bytes() == getattr(study, file).read_bytes()
    for ours, theirs in zip(run_folders(finished), run_folders(study), strict=True):
        assert read_run(ours).weights_hash == read_run(theirs).weights_hash
        assert not list(ours.root.glob("decay*"))


def test_a_collapsed_run_has_the_scores_of_a_failure_at_each_budget(request_, tmp_path):
    request = replace(request_, losses="collapsing_loss:NotANumber", out=tmp_path / "out")
    failed = read_table(run_study(request, in_process=True).budgets)
    assert set(failed["steps"]) == {10}
    assert set(failed["state"]) == {"collapsed"}
    assert (failed.loc[failed["metric"] == "dice", "value"] == 0).all()


def test_one_budget_leaves_no_trace_of_the_others(request_, tmp_path):
    one = replace(request_, out=tmp_path / "out", budgets="", budget="10steps")
    study = run_study(replace(one, part=(0, 1)), in_process=True)
    text = study.settings.read_text()
    assert "budgets" not in text
    assert "evaluated" not in text
    assert "one cycle" in text
    assert not study.budgets.exists()


def test_other_budgets_are_refused_for_a_study_that_exists(study, request_):
    with pytest.raises(RecordError, match=r"budgets 10,20steps → 12,20steps"):
        run_study(replace(request_, budgets="12,20steps"), in_process=True)


def test_a_recipe_whose_schedule_cannot_be_forked_is_refused(request_, tmp_path, monkeypatch):
    from pipeline.training import recipe
    from pipeline.training.schedule import Schedule

    monkeypatch.setitem(recipe.RECIPES, "poly", recipe.Recipe("poly", schedule=Schedule("polynomial")))
    request = replace(request_, recipe="poly", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="needs a schedule that ends at several budgets"):
        run_study(request, in_process=True)
    assert not StudyFolder(tmp_path / "out").settings.exists()


def test_a_study_without_any_budget_evaluates_fractions_of_the_default(request_, tmp_path):
    request = StudyRequest(dataset=request_.dataset, out=tmp_path)
    assert (request.budget, request.budgets) == ("300s", "auto")
    assert (replace(request, seeds=2).budget, replace(request, seeds=2).budgets) == ("300s", "auto")
