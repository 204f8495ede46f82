"""`segloss compare` and `segloss report` on a study with several budgets."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from fake_budgets import add_budgets
from fake_study import write_fake_study

from pipeline.cli.app import build_app

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    written = write_fake_study(
        tmp_path_factory.mktemp("compared"), losses=("dice", "ce"), folds=3, seeds=1, cases=9, size=16
    )
    add_budgets(written, {200: {"ce": 0.2}, 400: {"ce": 0.05}})
    return written


def test_report_prints_the_means_at_each_budget(study):
    done = RUNNER.invoke(build_app(), ["report", str(study.root)])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    assert "Mean Dice after each budget, over 9 cases" in shown
    assert "200 steps 400 steps 800 steps" in shown
    assert "after 800 steps per run" in shown


def test_a_comparison_of_a_study_has_its_budgets(study, tmp_path):
    done = RUNNER.invoke(build_app(), ["compare", str(study.root), "--out", str(tmp_path / "again"), "--json"])
    assert done.exit_code == 0, done.output
    budgets = json.loads(done.stdout)["budgets"]
    assert budgets["steps"] == [200, 400, 800]
    assert {(pair["a"], pair["b"]) for pair in budgets["pairs"]} == {("dice", "ce")}
    assert 'id="budget"' in (tmp_path / "again" / "report.html").read_text()


def test_studies_of_different_budgets_are_compared_at_the_largest_alone(study, tmp_path):
    other = write_fake_study(tmp_path, losses=("weighted_ce",), noise=(1.2,), folds=3, seeds=1, cases=9, size=16)
    done = RUNNER.invoke(build_app(), ["compare", str(study.root), str(other.root), "--json", "--unpaired"])
    assert done.exit_code == 0, done.output
    assert "budgets" not in json.loads(done.stdout)
