"""Studies that earlier versions wrote still load, and give the same numbers.

The archives hold the records of one small study each (three losses and a control, two folds, two seeds, 40 steps):
``statistics-1`` before the statistics of trainings were moderated, ``statistics-2`` after.
"""

import json
import zipfile
from pathlib import Path

import pytest

from pipeline.comparison.evidence import read_evidence
from pipeline.records.events import TrainEvent, ValidationEvent
from pipeline.records.folder import StudyFolder
from pipeline.records.run import RunRecord, read_traces
from pipeline.records.study import StudyRecord, read_study, run_folders
from pipeline.records.verdict import read_verdict
from pipeline.report.build import build_report

STUDIES = Path(__file__).parent / "studies"
NAMES = ("statistics-1", "statistics-2")


@pytest.fixture(params=NAMES)
def study(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    return unpacked(request.param, tmp_path)


def unpacked(name: str, root: Path) -> StudyFolder:
    with zipfile.ZipFile(STUDIES / f"{name}.zip") as archive:
        archive.extractall(root)
    return StudyFolder(root)


def contains(new: object, old: object) -> bool:
    """Whether JSON values are those of before, apart from keys that were added."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and contains(new[key], value) for key, value in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(contains, new, old))
    return new == (pytest.approx(old, rel=1e-12, abs=1e-15) if isinstance(old, float) else old)


def test_settings_and_runs_are_written_back_as_they_were(study: StudyFolder) -> None:
    assert read_study(study).to_json() == json.loads(study.settings.read_text())
    for run in run_folders(study):
        stored = json.loads(run.record.read_text())
        assert RunRecord.model_validate(stored).to_json() == stored


def test_events_are_typed_and_written_back_as_they_were(study: StudyFolder) -> None:
    for trace in read_traces(study):
        lines = [json.loads(line) for line in trace.folder.events.read_text().splitlines()]
        assert [event.to_json() for event in trace.events] == lines
        assert trace.of_kind(TrainEvent)[-1].step == 40
        assert trace.of_kind(ValidationEvent)[-1].by_class("dice").keys() == {"ball", "core"}


def test_the_verdict_and_the_report_are_made_again(study: StudyFolder) -> None:
    stored = read_verdict(study)
    verdict = build_report(study)
    assert verdict.recommended in read_study(study).labels
    assert {pair.names for pair in verdict.pairs} == {pair.names for pair in stored.pairs}
    assert study.report.stat().st_size > 100_000


def test_the_numbers_of_a_verdict_are_those_of_the_version_that_wrote_it(tmp_path: Path) -> None:
    study = unpacked("statistics-2", tmp_path)
    stored = json.loads(study.verdict.read_text())
    stored["references"] = {"checked": 0, "without": "", "doubtful": []}  # the images are not in the archive
    again = read_evidence(study).verdict.to_json()
    assert set(again) == set(stored)
    for key in stored:
        if key not in ("words", "caveats", "scope", "operating_points"):  # sentences may be worded anew
            assert contains(again[key], stored[key]), key
    assert contains(again["operating_points"]["pairs"], stored["operating_points"]["pairs"])


def test_a_record_of_a_later_version_loses_nothing() -> None:
    content = {"schema": 1, "name": "later", "atlas": {"prior": 0.25}}
    assert StudyRecord.model_validate(content).to_json() == content
