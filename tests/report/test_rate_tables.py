import json

import pytest
from fake_study import write_fake_study

from pipeline.comparison.evidence import read_evidence
from pipeline.records.study import run_folders
from pipeline.report.build import build_report
from pipeline.report.rate_tables import rates_table


def search(chosen, rule, scores, steps=20):
    candidates = [{"learning_rate": rate, "steps": steps, "score": score} for rate, score in scores.items()]
    return {"chosen": chosen, "rule": rule, "chance": 0.001, "candidates": candidates}


BEST = search(0.024, "best", {0.024: 0.75, 0.008: 0.5, 0.003: None})
INNER = search(0.008, "best", {0.024: 0.25, 0.008: 0.7, 0.003: 0.1})
FALLBACK = search(0.024, "fallback", {0.024: 0.0012, 0.008: 0.0010, 0.003: 0.0011}, steps=80)


@pytest.fixture
def study(tmp_path):
    return write_fake_study(tmp_path, losses=("dice", "ce"), noise=(0.9, 1.5), folds=2, seeds=1, cases=6, size=18)


def record(study, loss, searches):
    for run, found in zip((run for run in run_folders(study) if run.key.loss == loss), searches, strict=True):
        run.record.write_text(json.dumps(json.loads(run.record.read_text()) | {"learning_rate_search": found}))


def test_the_report_shows_what_each_search_tried_and_chose(study):
    record(study, "dice", [BEST, INNER])
    record(study, "ce", [FALLBACK, FALLBACK])
    rows = {(row[0].text, row[1].text): row for row in rates_table(read_evidence(study)).rows}
    assert list(rows) == [(loss, rate) for loss in ("dice", "ce") for rate in ("0.003", "0.008", "0.024")]
    shown = {key: [cell.text for cell in row[2:]] for key, row in rows.items()}
    assert shown["dice", "0.003"] == ["0.1000", "0.0010", "20", "0 of 2", "not finite in 1 run"]
    assert shown["dice", "0.008"] == ["0.6000", "0.0010", "20", "1 of 2", "–"]
    assert shown["dice", "0.024"] == ["0.5000", "0.0010", "20", "1 of 2", "at the edge of the candidates"]
    assert shown["ce", "0.024"] == ["0.0012", "0.0010", "80", "2 of 2", "fallback in 2 runs"]
    assert rows["dice", "0.008"][2].below == "0.5000 to 0.7000"
    build_report(study)
    page = study.report.read_text(encoding="utf-8")
    assert "Search over learning rates" in page
    assert "fallback in 2 runs" in page


def test_a_study_without_recorded_searches_is_reported_without_the_table(study):
    assert rates_table(read_evidence(study)).rows == []
    build_report(study)
    assert "Search over learning rates" not in study.report.read_text(encoding="utf-8")


def test_given_rates_are_no_search(study):
    given = {"chosen": 0.01, "rule": "given", "chance": None, "candidates": []}
    record(study, "dice", [given, given])
    assert rates_table(read_evidence(study)).rows == []
