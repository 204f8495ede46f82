"""An output that fills up or fails in the middle of a batch gives one line, and a repetition completes the batch."""

import errno
import json
import os
import resource
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from commands import ended, start
from small_model import save_head, small_model
from test_disks import fill, mounted

from pipeline.errors import ExitCode
from pipeline.inference import case_steps
from pipeline.inference.batch import Batch
from pipeline.inference.journal import Journal
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs
from pipeline.system.files import atomic_path

CASES = 4
SIZE = 8 << 20
REMEDY = "free disk space, then repeat the command; it continues"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, *_: object) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(bytes(6000))

    monkeypatch.setattr("pipeline.bundle.model.load_model", lambda *_, **__: small_model(fingerprint={}))
    monkeypatch.setattr(case_steps, "write_picture", write)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(CASES):
        save_head(tmp_path / "in" / f"case{number}.nii.gz", number, affine=np.diag([0.9, 1.0, 1.2, 1.0]))
    return tmp_path / "in"


def results_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent != out
    }


@pytest.mark.parametrize("slab_by_slab", [False, True])
def test_a_disk_that_fills_up_at_any_write_costs_only_time(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slab_by_slab: bool
) -> None:
    monkeypatch.setattr(case_steps, "is_large", lambda *_: slab_by_slab)
    command = ["predict", "bundle", str(images), "--probabilities", "--out"]
    assert ended(start([*command, str(tmp_path / "whole")], tmp_path / "said")) == ExitCode.OK
    expected = results_of(tmp_path / "whole")
    assert len(expected) == 3 * CASES

    failures, finished, left = [], [], 0
    with mounted(tmp_path / "disk", f"size={SIZE}") as disk:
        out = disk / "out"
        while True:
            balloon = fill(disk, left)
            code = ended(start([*command, str(out)], tmp_path / "said"))
            balloon.unlink()
            if code == ExitCode.OK:
                break
            assert code == ExitCode.WRONG_REQUEST
            lines = (tmp_path / "said").read_text().splitlines()
            assert "Traceback" not in "\n".join(lines)
            failures += [line for line in lines if line.startswith("error:")]
            assert not [line for line in lines if "failed" in line]
            assert not list(out.rglob(".writing-*"))
            listed = {name for record in Journal(out, repair=False).records.values() for name in record.files}
            finished.append(len(listed) // 3)
            assert set(results_of(out)) == listed if out.exists() else not listed
            left += 48 << 10
        print(f"the disk was full {len(failures)} times; cases done: {finished}")
        assert results_of(out) == expected
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["counts"]["failed"] == 0
    assert len(failures) == len(finished) >= 4
    assert len({0, CASES, *finished}) > 2
    assert not [line for line in failures if "No space left on device" not in line or REMEDY not in line]


def test_a_read_only_output_is_one_line_before_any_work(images: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        code = ended(start(["predict", "bundle", str(images), "--out", str(disk / "out")], tmp_path / "said"))
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert code == ExitCode.WRONG_REQUEST
    assert "Read-only file system" in line
    assert "give another --out folder" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_an_output_that_fails_in_the_middle_ends_the_batch_and_its_repetition_predicts_the_rest(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def broken(path: Path, *arguments: object) -> None:
        if path.name.startswith("case2"):
            raise OSError(number, os.strerror(number), str(path))
        write(path, *arguments)

    write = case_steps.write_picture
    out, model = tmp_path / "out", small_model(fingerprint={})
    jobs = find_jobs(images, model.channels)
    with monkeypatch.context() as patched:
        patched.setattr(case_steps, "write_picture", broken)
        with pytest.raises(OSError, match="case2") as raised:
            Batch(model, out).run(jobs)
    assert raised.value.errno == number
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["case0.nii.gz", "case1.nii.gz"]
    assert json.loads((out / "manifest.json").read_text())["finished"] is None
    records = Batch(model, out).run(jobs)
    assert [record.status for record in records] == ["skipped", "skipped", "done", "done"]


def test_a_file_beyond_the_limit_of_file_sizes_fails_its_case_alone_and_leaves_nothing_of_it(
    images: Path, tmp_path: Path
) -> None:
    save_head(images / "big.nii.gz", shape=(64, 64, 64))
    out, model = tmp_path / "out", small_model(fingerprint={})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        records = Batch(model, out, Options(probabilities=True)).run(find_jobs(images, model.channels))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {record.case: record.status for record in records} == {
        "big": "failed", **{f"case{number}": "done" for number in range(CASES)}
    }  # fmt: skip
    assert records[0].reason == "cannot be read or written (File too large)"
    assert not [path for path in out.rglob("*big*") if path.is_file()]
    assert not list(out.rglob(".writing-*"))
    (again, *rest) = Batch(model, out, Options(probabilities=True)).run(find_jobs(images, model.channels))
    assert again.status == "done"
    assert {record.status for record in rest} == {"skipped"}
    assert nib.load(out / "probabilities" / "big.nii.gz").shape == (64, 64, 64, 3)
