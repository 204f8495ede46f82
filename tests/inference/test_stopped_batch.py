"""Records and files of a batch that is stopped."""

import csv
import json

import pytest
from small_model import save_head, small_model

from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs

pytestmark = pytest.mark.usefixtures("quick_pictures")

CASES = 6


class After:
    """Request to stop after a number of completed cases."""

    def __init__(self, cases):
        self.left = cases

    def case(self, *_):
        self.left -= 1

    def stop(self):
        return self.left <= 0


@pytest.fixture
def source(tmp_path):
    for number in range(CASES):
        save_head(tmp_path / "in" / f"case{number}.nii.gz", number)
    return tmp_path / "in"


def run(source, out, cases=CASES, **options):
    model = small_model()
    after = After(cases)
    return Batch(model, out, Options(**options)).run(find_jobs(source, model.channels), after.case, after.stop)


def states(out):
    return {case["case"]: case["status"] for case in json.loads((out / "manifest.json").read_text())["cases"]}


def test_every_job_has_a_record_and_those_not_started_have_a_remedy(source, tmp_path):
    records = run(source, tmp_path / "out", 2)
    left = [record for record in records if record.status == "not_started"]
    assert len(records) == CASES
    assert 3 <= len(left) <= 4
    assert {record.reason for record in left} == {"the batch was stopped before this case"}
    assert {record.remedy for record in left} == {"the same command continues"}
    assert {record.output for record in left} == {""}
    listed = states(tmp_path / "out")
    assert [case for case, status in listed.items() if status == "not_started"] == [record.case for record in left]
    with (tmp_path / "out" / "manifest.csv").open(newline="") as stream:
        assert {row["case"]: row["status"] for row in csv.DictReader(stream)} == listed


def test_the_journal_does_not_store_cases_that_were_not_started(source, tmp_path):
    run(source, tmp_path / "out", 2)
    assert "not_started" not in (tmp_path / "out" / "journal.jsonl").read_text()
    assert {record.status for record in run(source, tmp_path / "out")} == {"done", "skipped"}
    assert set(states(tmp_path / "out").values()) == {"done", "skipped"}


def test_results_of_an_earlier_batch_stay_listed_if_this_one_did_not_reach_them(source, tmp_path):
    run(source, tmp_path / "out")
    records = run(source, tmp_path / "out", 1)
    assert "not_started" in {record.status for record in records}
    assert set(states(tmp_path / "out").values()) <= {"done", "skipped"}


def test_results_by_other_settings_are_not_listed_as_those_of_this_batch(source, tmp_path):
    run(source, tmp_path / "out")
    run(source, tmp_path / "out", 1, precision="bfloat16")
    assert states(tmp_path / "out")["case5"] == "not_started"


@pytest.mark.parametrize(
    "words",
    ["[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
     "CUDA out of memory. Tried to allocate 2.00 GiB", "DefaultCPUAllocator: not enough memory", "std::bad_alloc"],
)  # fmt: skip
def test_every_out_of_memory_message_of_torch_is_recognized(source, tmp_path, monkeypatch, words):
    def out_of_memory(*_):
        raise RuntimeError(words)

    monkeypatch.setattr("pipeline.inference.case_steps.score", out_of_memory)
    (record,) = run(source / "case0.nii.gz", tmp_path / "out")
    assert record.status == "failed"
    assert record.reason == "does not fit into memory"
