"""The combined page, and the commands on a folder of several studies."""

import json
import re
from xml.etree import ElementTree

import pytest
from fake_recipes import write_fake_recipes
from typer.testing import CliRunner

from pipeline.cli.app import build_app
from pipeline.errors import ConfigError, RecordError
from pipeline.records.recipes import RecipesVerdict
from pipeline.records.table import read_table
from pipeline.report.recipes import combine, rebuild_recipes
from pipeline.report.recipes_page import interaction_note, means_table, recipe_panel, recipes_page
from pipeline.report.styles import styles_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    made = write_fake_recipes(root, waiting=("nnunet",), folds=3, seeds=2, cases=9, size=16)
    rebuild_recipes(made)
    return made


def invoke(*arguments):
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def test_the_page_links_to_the_studies_and_names_the_waiting_recipe(folder):
    page = folder.report.read_text()
    for recipe in ("fast", "adamw"):
        assert f'href="studies/{recipe}/report.html"' in page
        assert folder.study(recipe).report.exists()
    assert "Without results yet: nnunet." in page
    assert page.count("<svg") == 3
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_the_best_loss_of_each_recipe_is_marked(folder):
    verdict = combine(folder)
    table = means_table(verdict, "dice")
    assert table.columns == ("loss", "fast", "adamw")
    for column, recipe in enumerate(("fast", "adamw"), start=1):
        best = [row[0].loss for row in table.rows if "best" in row[column].kind]
        assert best == [max(table.rows, key=lambda row, at=column: float(row[at].sort))[0].loss]
        assert verdict.mean_of("dice", recipe, best[0]).best


def test_the_figure_has_a_line_for_each_loss_and_a_point_for_each_mean(folder):
    verdict = combine(folder)
    figure = ElementTree.fromstring(str(recipe_panel(verdict, "dice", styles_of(verdict.losses))))
    tags = [item.tag.rpartition("}")[2] for item in figure.iter()]
    assert tags.count("polyline") == 3
    assert tags.count("circle") == 6


def test_names_are_escaped(folder):
    verdict = combine(folder)
    text = verdict.model_dump_json().replace("weighted_ce", "<i>x</i>")
    page = recipes_page(RecipesVerdict.model_validate_json(text), folder.read_record())
    assert "<i>x</i>" not in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page


def test_every_conclusion_has_a_note(folder):
    assert all(interaction_note(pair) for pair in combine(folder).pairs)


def test_compare_prints_the_combined_verdict_and_writes_nothing(folder):
    before = folder.verdict.stat().st_mtime_ns
    result = invoke("compare", folder.root, "--json")
    assert json.loads(result.stdout) == json.loads(folder.verdict.read_text())
    assert folder.verdict.stat().st_mtime_ns == before
    shown = invoke("compare", folder.root).stdout
    assert "dice - dice_ce" in shown
    assert "under" in shown


def test_compare_takes_no_other_option_on_such_a_folder(folder):
    assert isinstance(invoke("compare", folder.root, "--metrics", "dice").exception, ConfigError)


def test_report_writes_everything_again(folder):
    verdict = json.loads(folder.verdict.read_text())
    for path in (folder.report, folder.table, folder.verdict, folder.study("adamw").report):
        path.unlink()
    result = invoke("report", folder.root, "--json")
    assert json.loads(result.stdout) == verdict
    assert folder.study("adamw").report.exists()
    assert set(read_table(folder.table)["recipe"]) == {"fast", "adamw"}
    assert str(folder.report) in invoke("report", folder.root).stdout


@pytest.mark.parametrize("command", ["ui", "track", "export"])
def test_commands_on_one_study_name_the_studies_in_one_line(folder, command):
    options = ["--out", str(folder.root / "bundle")] if command == "export" else []
    error = invoke(command, folder.root, *options).exception
    assert isinstance(error, RecordError)
    assert "holds 2 studies, one for each recipe" in str(error)
    assert str(folder.study("fast").root) in str(error)
    assert "\n" not in str(error)


def test_a_folder_without_results_is_refused(tmp_path):
    made = write_fake_recipes(tmp_path, recipes=("fast",), folds=2, seeds=1, cases=2, size=12)
    for path in made.root.rglob("run.json"):
        path.unlink()
    with pytest.raises(RecordError, match="has no results of its recipes fast"):
        rebuild_recipes(made)
