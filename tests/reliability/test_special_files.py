"""Pipes and devices with the names of images: refused in one line, never read for ever."""

import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from commands import ended_within, start
from small_model import save_head, small_model

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bundle.model.load_model", lambda *_, **__: small_model())


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.fixture(params=[pipe, endless], ids=["a pipe", "a link to /dev/zero"])
def special(request: pytest.FixtureRequest):
    return request.param


def said_by(tmp_path: Path, *arguments: object) -> tuple[int, str]:
    said = tmp_path / "said"
    return ended_within(start([*map(str, arguments)], said), PATIENCE_S), said.read_text()


def save_label(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.pad(np.ones((4, 5, 6), np.uint8), 2), np.eye(4)), path)


def test_predict_lists_it_as_failed_and_goes_on(tmp_path: Path, special) -> None:
    save_head(tmp_path / "in" / "a.nii.gz")
    special(tmp_path / "in" / "b.nii.gz")
    special(tmp_path / "in" / "c.dcm")
    save_head(tmp_path / "in" / "d.nii.gz", 1)
    code, said = said_by(tmp_path, "predict", "bundle", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1, said
    cases = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    assert [(case["case"], case["status"]) for case in cases] == [("a", "done"), ("b", "failed"), ("d", "done")]
    assert cases[1]["reason"] == "is not a file"


@pytest.mark.parametrize("name", ["a.nii.gz", "list.csv"])
def test_predict_refuses_it_as_input_or_list(tmp_path: Path, special, name: str) -> None:
    special(tmp_path / name)
    code, said = said_by(tmp_path, "predict", "bundle", tmp_path / name, "--out", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1)
    assert f"{name}: is not a file" in said


def test_predict_refuses_it_where_a_list_names_it(tmp_path: Path, special) -> None:
    special(tmp_path / "b.nii.gz")
    (tmp_path / "list.txt").write_text("b.nii.gz\n")
    code, said = said_by(tmp_path, "predict", "bundle", tmp_path / "list.txt", "--out", tmp_path / "out")
    assert code == 1
    assert "b: failed: is not a file" in said


@pytest.mark.parametrize("name", ["image.nii.gz", "label.nii.gz"])
def test_inspect_lists_it_as_a_problem(tmp_path: Path, special, name: str) -> None:
    for seed, case in enumerate(("p1", "p2", "p3")):
        save_head(tmp_path / "data" / case / "image.nii.gz", seed, shape=(8, 9, 10))
        save_label(tmp_path / "data" / case / "label.nii.gz")
    (tmp_path / "data" / "p2" / name).unlink()
    special(tmp_path / "data" / "p2" / name)
    code, said = said_by(tmp_path, "inspect", tmp_path / "data", "--workers", "1")
    assert code == 2
    assert f"p2/{name}: is not a file" in said


@pytest.mark.parametrize("name", ["dataset.json", "list.csv", "list.json"])
def test_inspect_refuses_it_as_a_list(tmp_path: Path, special, name: str) -> None:
    (tmp_path / "data").mkdir()
    special(tmp_path / "data" / name)
    code, said = said_by(tmp_path, "inspect", tmp_path / "data" / name)
    assert (code, said.count("\n")) == (2, 1), said


def test_evaluate_lists_it_as_failed_and_goes_on(tmp_path: Path, special) -> None:
    for folder in ("references", "predictions"):
        save_label(tmp_path / folder / "a.nii.gz")
    save_label(tmp_path / "references" / "b.nii.gz")
    special(tmp_path / "predictions" / "b.nii.gz")
    code, said = said_by(tmp_path, "evaluate", tmp_path / "references", tmp_path / "predictions")
    assert code == 1
    assert "predictions/b.nii.gz: is not a file" in said
