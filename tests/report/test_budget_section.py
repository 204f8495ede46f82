import json
import re

import pytest
from fake_budgets import add_budgets
from fake_study import column, write_fake_study

from pipeline.comparison.evidence import read_evidence
from pipeline.records.verdict import read_verdict
from pipeline.report.budget_section import budget_plot, budget_section, courses_table
from pipeline.report.build import build_report
from pipeline.report.styles import styles_of

BEHIND = {
    100: {"dice": 0.02, "ce": 0.3, "weighted_ce": 0.4},
    200: {"dice": 0.01, "ce": 0.1, "weighted_ce": 0.2},
    400: {"dice": 0.0, "ce": 0.03, "weighted_ce": 0.1},
}


def study_with_budgets(folder, **changes):
    options = {"losses": ("dice", "ce", "weighted_ce"), "folds": 4, "seeds": 1, "cases": 12, "size": 18} | changes
    study = write_fake_study(folder, **options)
    add_budgets(study, BEHIND)
    return study


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    study = study_with_budgets(tmp_path_factory.mktemp("budgets"))
    verdict = build_report(study)
    return study, verdict, study.report.read_text(encoding="utf-8")


def test_the_page_has_a_section_on_the_budget(built):
    _, verdict, page = built
    section = page[page.index('<section id="budget">') : page.index('<section id="classes">')]
    assert '<a href="#budget">Budget</a>' in page
    assert "Dice over the budget, 12 cases" in section
    assert "100 steps" in section
    assert section.count("<svg") == 1
    for pair in verdict.budgets.pairs:
        assert f"<dt>{pair.course.replace('_', ' ')}</dt>" in section


def test_the_first_screen_names_the_budget_and_what_smaller_ones_gave(built):
    _, verdict, page = built
    hero = page[page.index('id="verdict"') : page.index('id="tables"')]
    assert "on 12 cases after 800 steps per run" in hero.lower()
    assert verdict.words[1].startswith(("The verdict was the same", "Smaller budgets gave another verdict"))
    assert verdict.words[1] in hero
    assert verdict.words[2].startswith("Over the budgets, of 3 pairs")
    assert "In the last quarter of training" not in hero  # the courses tell more than the slopes of the curves
    assert verdict.scope.conditions in hero


def test_the_verdict_on_disk_has_the_axis_and_the_study_its_table(built):
    study, verdict, _ = built
    assert read_verdict(study).budgets == verdict.budgets
    content = json.loads(study.verdict.read_text())
    assert content["budgets"]["steps"] == [100, 200, 400, 800]
    assert study.budgets.read_text().startswith("steps,loss,fold,seed,case")


def test_a_report_of_the_tables_alone_has_the_same_axis(tmp_path):
    study = study_with_budgets(tmp_path)
    before = build_report(study)
    for path in study.root.glob("runs/*/*/*.*"):
        path.unlink()
    assert build_report(study).budgets == before.budgets


def test_the_figure_has_a_mark_for_each_loss_and_budget_and_ticks_at_the_budgets(built):
    axis = built[1].budgets
    svg = str(budget_plot(axis, styles_of(axis.losses)))
    assert svg.count("<circle") == 12
    assert svg.count("<polyline") == 3
    assert re.findall(r'class="tick">([\d,]+)</text>', svg)[-4:] == ["100", "200", "400", "800"]
    assert "dice after 100 steps: " in svg


def test_labels_of_close_budgets_do_not_overlap(built):
    axis = built[1].budgets.model_copy(update={"steps": (1000, 100_000, 101_000, 102_000)})
    axis = axis.model_copy(update={"means": ()})
    labels = re.findall(r'class="tick">([\d,]+)</text>', str(budget_plot(axis, {})))
    assert labels[-2:] == ["1,000", "102,000"]


def test_the_table_of_pairs_has_differences_and_courses(built):
    axis = built[1].budgets
    table = courses_table(axis)
    assert column(table, "first") == ["dice", "dice", "ce"]
    assert column(table, "course") == [pair.course.replace("_", " ") for pair in axis.pairs]
    first = axis.pairs[0].differences[0]
    assert column(table, "100 steps")[0] == f"{100 * first.difference:+.2f}"


def test_a_collapsed_run_counts_at_every_budget(tmp_path):
    study = study_with_budgets(tmp_path, collapsed=[("ce", 1, 0)])
    axis = build_report(study).budgets
    assert axis.cases == 12
    assert all(mean.mean < 0.8 for mean in axis.means_of("ce"))


def test_a_study_with_one_budget_has_no_section(tmp_path):
    study = write_fake_study(tmp_path, folds=2, seeds=1, cases=4, size=16)
    verdict = build_report(study)
    assert budget_section(read_evidence(study), styles_of(["dice"])) is None
    assert 'id="budget"' not in study.report.read_text()
    assert "budgets" not in verdict.to_json()
    assert not study.budgets.exists()
