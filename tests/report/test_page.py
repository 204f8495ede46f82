import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from fake_study import column, write_fake_study

from pipeline.comparison.evidence import read_evidence
from pipeline.errors import RecordError
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.study import run_folders
from pipeline.records.table import read_table, write_table
from pipeline.report.build import build_report
from pipeline.report.loss_tables import presence_table
from pipeline.report.pair_tables import pairs_table


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    study = write_fake_study(
        tmp_path_factory.mktemp("built"), collapsed=[("weighted_ce", 2, 1)], unfinished=[("dice", 1, 1)]
    )
    verdict = build_report(study)
    return study, verdict, study.report.read_text(encoding="utf-8")


def small_study(folder, **changes):
    return write_fake_study(folder, **{"folds": 2, "seeds": 1, "cases": 6, "size": 18, **changes})


class Tags(HTMLParser):
    """Every element and attribute of a page, and whether elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.open, self.badly_closed = set(), [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.badly_closed.append(tag)


def test_a_report_writes_table_verdict_and_page(built):
    study, verdict, page = built
    assert json.loads(study.verdict.read_text()) == verdict.to_json()
    assert len(pd.read_csv(study.cases)) > 0
    assert verdict.words[0] in page


def test_elements_are_closed_in_order(built):
    tags = Tags(built[2])
    assert tags.open == []
    assert tags.badly_closed == []


def test_the_page_refers_to_nothing_outside_itself(built):
    addresses = [value for name, value in Tags(built[2]).attributes if name in ("href", "src", "srcset", "action")]
    assert addresses
    assert all(value.startswith(("#", "data:")) for value in addresses)
    assert not re.search(r"@import|url\(", built[2])


def test_the_page_stays_small(built):
    assert len(built[2]) < 5_000_000


def test_two_reports_of_the_same_records_differ_in_the_time_of_writing_alone(built):
    study, _, page = built
    table = study.cases.read_bytes()
    build_report(study)
    without_time = re.compile(r"Written [-0-9: ]+ UTC")
    assert without_time.sub("", study.report.read_text(encoding="utf-8")) == without_time.sub("", page)
    assert study.cases.read_bytes() == table


def test_means_in_the_table_are_those_of_the_records(built):
    study, verdict, page = built
    table = pd.read_csv(study.cases)
    dice = table[(table["metric"] == "dice") & (table["loss"] == "dice_ce")]
    mean = dice.groupby(["case", "class"])["value"].mean().groupby("case").mean().mean()
    summary = verdict.result_of("dice_ce").metrics["dice"]
    assert summary.mean == pytest.approx(mean)
    assert f"{mean:.3f} ± " in page


def test_unfinished_and_collapsed_runs_are_named(built):
    page = built[2]
    assert "17 of 18 finished" in page
    assert "dice s1 f1 (under way)" in page
    assert "weighted_ce s1 f2 (never predicts Anterior)" in page


def test_no_table_of_presence_where_every_case_shows_every_structure(built):
    assert presence_table(read_evidence(built[0])).rows == []
    assert "Present or absent" not in built[2]


def test_the_page_shows_the_settings_that_a_reader_needs(built):
    page = built[2]
    for told in ("<dt>precision</dt><dd>bfloat16</dd>", "<dt>optimizer</dt><dd>Muon and AdamW</dd>", "800 steps"):
        assert told in page


def test_equal_hashes_prove_the_pairing(built):
    assert "Fair pairing, verified" in built[2]


def test_a_run_that_saw_other_patches_is_reported_on_the_first_screen(tmp_path):
    study = small_study(tmp_path)
    path = study.run(RunKey("dice_ce", 0, 0)).record
    path.write_text(json.dumps({**json.loads(path.read_text()), "feed_hash": "f" * 32}))
    build_report(study)
    page = study.report.read_text(encoding="utf-8")
    assert "BROKEN: hashes differ" in page
    assert "Pairing is broken" in page
    assert "Fair pairing, verified" not in page


def test_hostile_names_are_shown_as_text(tmp_path):
    losses = ("dice", '"><script>alert(1)<!--', "x' onload=alert(2) y='")
    study = small_study(
        tmp_path,
        losses=losses,
        prefix="<img src=x onerror=alert(3)>&lt;",
        command="</code></pre><script>alert(4)</script>",
    )
    build_report(study)
    page = study.report.read_text(encoding="utf-8")
    tags = Tags(page)
    assert "img" not in tags.names
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert page.count("<script>") == 1
    assert tags.badly_closed == []
    assert "&lt;img src=x onerror=alert(3)&gt;&amp;lt;" in page


def test_pictures_show_best_median_and_worst_cases_and_where_losses_differ(built):
    page = built[2]
    assert page.count('class="overlay"') == 3 * 3 + 4 * 3 * 3
    assert "data:image/png;base64," in page
    assert all(word in page for word in (">best ", ">median ", ">worst "))


def test_missing_images_are_listed_and_do_not_fail_the_report(tmp_path):
    study = small_study(tmp_path)
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    build_report(study)
    page = study.report.read_text(encoding="utf-8")
    assert "could not be shown" in page
    assert "image or label of case_0" in page
    assert 'class="overlay"' not in page


def test_unreadable_predictions_are_listed(tmp_path):
    study = small_study(tmp_path)
    for path in study.root.glob("runs/*/*/predictions/*"):
        path.write_bytes(b"not an image")
    build_report(study)
    assert "the prediction of dice for" in study.report.read_text(encoding="utf-8")


def test_a_page_that_would_become_too_large_leaves_pictures_out(tmp_path, monkeypatch):
    study = small_study(tmp_path)
    build_report(study)
    whole = study.report.read_text(encoding="utf-8")
    monkeypatch.setattr("pipeline.report.overlays.BUDGET_BYTES", 2000)
    build_report(study)
    page = study.report.read_text(encoding="utf-8")
    assert 0 < page.count('class="overlay"') < whole.count('class="overlay"')
    assert "More pictures are left out" in page
    assert "More pictures are left out" not in whole


def test_one_finished_run_is_reported_without_a_comparison(tmp_path):
    losses = ("dice", "ce")
    others = [(loss, fold, 0) for loss in losses for fold in range(2) if (loss, fold) != ("dice", 0)]
    study = small_study(tmp_path, losses=losses, unfinished=others)
    assert build_report(study).verdict == "inconclusive"
    assert "1 of 4 finished" in study.report.read_text(encoding="utf-8")


def test_losses_without_a_common_case_have_no_verdict_yet(tmp_path):
    study = small_study(tmp_path, losses=("dice", "ce"), unfinished=[("dice", 1, 0), ("ce", 0, 0)])
    verdict = build_report(study)
    assert verdict.recommended is None
    assert "nothing to compare yet" in study.report.read_text(encoding="utf-8")


def test_a_study_whose_runs_all_collapsed_has_a_report(tmp_path):
    losses = ("dice", "ce")
    study = small_study(tmp_path, losses=losses, collapsed=[(loss, fold, 0) for loss in losses for fold in range(2)])
    assert build_report(study).recommended is None
    assert "4 runs collapsed" in study.report.read_text(encoding="utf-8")


def test_a_loss_that_collapsed_in_one_fold_stays_in_the_comparison_with_its_failures(tmp_path):
    study = small_study(tmp_path, collapsed=[("weighted_ce", 1, 0)])
    verdict = build_report(study)
    page = study.report.read_text(encoding="utf-8")
    summary = verdict.result_of("weighted_ce").metrics["dice"]
    assert verdict.set_aside == {}
    assert summary.cases == 6
    assert summary.failure_rate >= 0.5
    assert "1 run collapsed and counts as a failure in every case" in page
    assert "no part of any mean" not in page


def test_losses_that_were_trained_once_have_no_verdict(tmp_path):
    """One fold is in: patients alone cannot tell two trainings apart from two losses."""
    losses = ("dice", "ce")
    study = small_study(tmp_path, losses=losses, noise=(0.5, 2.5), unfinished=[(loss, 1, 0) for loss in losses])
    verdict = build_report(study)
    page = study.report.read_text(encoding="utf-8")
    assert not verdict.replicated
    assert '<p class="kind inconclusive">No verdict</p>' in page
    assert 'class="recommended"' not in page
    table = pairs_table(verdict)
    assert set(column(table, "p (corrected)")) == {"–"}
    assert set(column(table, "conclusion")) == {"trained once: no verdict"}


def disagreeing_study(folder):
    """The first loss has one point more Dice than the second in all 24 cases but two, which it misses."""
    study = small_study(folder, losses=("dice", "ce"), cases=24, size=12, missed=[("dice", 0), ("dice", 1)])
    for fold in range(2):
        mine, other = (study.run(RunKey(loss, fold, 0)).cases for loss in ("dice", "ce"))
        rows, values = read_table(mine), read_table(other)["value"]
        found = (rows["metric"] == "dice") & (rows["state"] == "ok")
        write_table(mine, rows.assign(value=rows["value"].where(~found, values + 0.01)))
    return study


def test_a_mean_that_contradicts_the_typical_case_is_a_caveat_that_stands_out(tmp_path):
    study = disagreeing_study(tmp_path)
    verdict = build_report(study)
    page = study.report.read_text(encoding="utf-8")
    (pair,) = verdict.pairs_of("dice")
    assert pair.difference < 0 < pair.median_difference
    assert '<li class="alert">Mean and typical case disagree: the mean Dice favors ce, yet dice is better in' in page
    table = pairs_table(verdict)
    assert table.rows[0][table.columns.index("conclusion")].text == "mean and typical case disagree"
    assert column(table, "median difference")[0] == f"+{100 * pair.median_difference:.2f} points"


def test_the_stability_of_ranks_needs_five_folds(tmp_path, built):
    assert all(ranking.tau is None for ranking in built[1].ranking.values())
    assert "Kendall" not in built[2]
    study = small_study(tmp_path, folds=5, cases=10)
    build_report(study)
    assert "Kendall's τ of the redrawn rankings" in study.report.read_text(encoding="utf-8").replace("&#39;", "'")


def test_the_scope_is_on_the_first_screen_and_in_the_verdict(built):
    _, verdict, page = built
    hero = page[page.index('id="verdict"') : page.index('id="tables"')]
    conditions, end = verdict.scope.words
    for told in ("800 steps", "Muon and AdamW", "3 levels (16, 32, 64 features)", "24 × 28 × 20", "0.003 to 0.008"):
        assert told in conditions
    assert "In the last quarter of training, Dice still rises with" in end
    assert {slope.loss for slope in verdict.scope.slopes} == {"dice", "dice_ce", "weighted_ce"}
    assert conditions in hero
    assert end in hero
    assert hero.count(conditions) == 1
    assert conditions in verdict.words


def test_a_study_without_a_finished_run_is_refused(tmp_path):
    study = small_study(tmp_path, losses=("dice",), noise=(1.0,), unfinished=[("dice", 0, 0), ("dice", 1, 0)])
    with pytest.raises(RecordError, match="none of its 2 runs has finished"):
        build_report(study)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(RecordError, match="is not a study folder"):
        build_report(StudyFolder(tmp_path))


def test_a_report_can_be_built_from_the_table_alone(tmp_path):
    study = small_study(tmp_path)
    before = build_report(study).to_json()
    for path in study.root.glob("runs/*/*/*.*"):
        path.unlink()
    table = study.cases.read_bytes()
    after = build_report(study).to_json()
    without_runs = {"references": {"checked": 0, "without": "", "doubtful": []}, "scope": after["scope"]}
    assert after == before | without_runs | {"words": [*before["words"][:-2], *after["scope"]["words"]]}
    assert after["scope"]["slopes"] == []
    assert study.cases.read_bytes() == table


def test_values_that_are_not_finite_do_not_reach_the_figures(tmp_path):
    study = small_study(tmp_path)
    events = study.run(RunKey("dice", 0, 0)).events
    with events.open("a") as stream:
        stream.write('{"kind":"train","step":810,"loss":null,"gradient_norm":null}\n{"kind":"train","st')
    build_report(study)
    points = re.findall(r'points="([^"]*)"', study.report.read_text(encoding="utf-8"))
    assert points
    assert np.isfinite([float(value) for line in points for value in re.split("[ ,]", line)]).all()


def test_a_report_needs_no_torch(built):
    code = (
        "import sys; from pathlib import Path; from pipeline.records.folder import StudyFolder; "
        "from pipeline.report.build import build_report; build_report(StudyFolder(Path(sys.argv[1]))); "
        "print(sorted({'torch', 'monai', 'ignite', 'mlflow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(built[0].root)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_dropped_losses_and_preflight_warnings_are_shown_and_take_no_cases_from_the_rest(tmp_path):
    study = small_study(tmp_path, losses=("dice", "ce", "focal"))
    settings = json.loads(study.settings.read_text())
    settings |= {"dropped": {"focal": "behind dice by 20 points"}, "preflight": ["note: dice: <no> gradient"]}
    study.settings.write_text(json.dumps(settings))
    for run in list(run_folders(study)):
        if run.key.loss == "focal" and run.key.fold > 0:
            run.record.unlink()
    verdict = build_report(study)
    page = study.report.read_text()
    assert verdict.set_aside["focal"].startswith("dropped by the race")
    assert verdict.cases == len(set(read_table(study.cases)["case"]))
    assert "behind dice by 20 points" in page
    assert "note: dice: &lt;no&gt; gradient" in page
