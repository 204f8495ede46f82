import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from fake_study import write_fake_study

from pipeline.cli.app import build_app
from pipeline.errors import RecordError


@pytest.fixture
def study(tmp_path):
    return write_fake_study(tmp_path, folds=2, seeds=1, cases=4, size=16)


def test_report_prints_the_verdict_and_the_path_of_the_page(study):
    result = CliRunner().invoke(build_app(), ["report", str(study.root)])
    assert result.exit_code == 0, result.output
    verdict = json.loads(study.verdict.read_text())
    assert verdict["words"][0] in result.stdout.replace("\n", " ")
    assert str(study.report) in result.stdout.replace("\n", "")
    assert study.report.exists()


def test_json_is_the_verdict_and_nothing_else(study):
    result = CliRunner().invoke(build_app(), ["report", str(study.root), "--json"])
    assert json.loads(result.stdout) == json.loads(study.verdict.read_text())


def test_a_folder_without_a_study_is_refused(tmp_path):
    result = CliRunner().invoke(build_app(), ["report", str(tmp_path)])
    assert isinstance(result.exception, RecordError)
