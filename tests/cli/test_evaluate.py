import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.cli import evaluate as command
from pipeline.cli.app import main


def write(path, labels, affine=None, dtype=np.uint8):
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(
        nib.Nifti1Image(np.asarray(labels).astype(dtype), np.diag([2.0, 1, 1, 1]) if affine is None else affine), path
    )


def labels(*values):
    found = np.zeros((6, 6, 6))
    for value in values:
        found[value : value + 2, 1:4, 1:4] = value
    return found


@pytest.fixture
def folders(tmp_path):
    references, predictions = tmp_path / "references", tmp_path / "net"
    for case in "ab":
        write(references / f"{case}.nii.gz", labels(1, 3))
    write(predictions / "a.nii.gz", labels(1, 3))
    write(predictions / "b.nii", labels(1))
    return references, predictions


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["segloss", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out, said.err


def test_the_panel_of_two_folders(folders, tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *folders, "--out", tmp_path / "cases.csv", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["loss"], said["cases"], said["classes"]) == ("net", 2, {"1": "1", "3": "3"})
    dice = next(row for row in said["summary"] if row["class"] == "3" and row["metric"] == "dice")
    assert (dice["mean"], dice["defined"], dice["missed"]) == (0.5, 2, 1)
    table = pd.read_csv(tmp_path / "cases.csv", dtype={"class": str})
    assert list(table.columns) == ["loss", "fold", "seed", "case", "class", "metric", "value", "state"]
    row = table[(table["case"] == "b") & (table["class"] == "3") & (table["metric"] == "hausdorff_mm")].iloc[0]
    assert row["state"] == "missed"
    assert row["value"] == pytest.approx(np.linalg.norm([12, 6, 6]))


def test_a_class_of_other_cases_is_a_correct_absence_where_neither_mask_holds_it(tmp_path, monkeypatch, capsys):
    for folder in ("references", "net"):
        write(tmp_path / folder / "a.nii.gz", labels(1))
        write(tmp_path / folder / "b.nii.gz", labels(2))
    _, out, _ = run(monkeypatch, capsys, tmp_path / "references", tmp_path / "net", "--json")
    rows = json.loads(out)["summary"]
    assert {(row["defined"], row["correct_absence"]) for row in rows} == {(1, 1)}
    assert len({row["metric"] for row in rows}) == 12


def test_missing_predictions_and_other_grids_are_listed_by_name(folders, monkeypatch, capsys):
    references, predictions = folders
    write(references / "c.nii.gz", labels(1))
    write(references / "d.nii.gz", labels(1))
    write(predictions / "d.nii.gz", labels(1), affine=np.eye(4))
    write(predictions / "e.nii.gz", labels(1))
    code, out, err = run(monkeypatch, capsys, *folders, "--json")
    assert code == 1
    assert [failure["case"] for failure in json.loads(out)["failed"]] == ["c", "d"]
    lines = err.strip().splitlines()
    assert len(lines) == 3
    assert "c.nii.gz: does not exist" in lines[0]
    assert "d.nii.gz: is not on the grid of its reference d.nii.gz: it has spacing" in lines[1]
    assert "e.nii.gz: has no reference" in lines[2]


def test_nothing_to_evaluate_is_a_wrong_request(folders, monkeypatch, capsys):
    _, predictions = folders
    for name in ("a.nii.gz", "b.nii"):
        write(predictions / name, labels(1)[:5])
    code, out, err = run(monkeypatch, capsys, *folders, "--json")
    assert (code, out) == (2, "")
    assert "shape 5×6×6, not 6×6×6" in err
    assert "error: " in err.splitlines()[-1]


def test_an_image_in_place_of_a_mask_is_refused_by_name(folders, monkeypatch, capsys):
    write(folders[1] / "a.nii.gz", np.random.default_rng(0).normal(size=(6, 6, 6)), dtype=np.float32)
    code, _, err = run(monkeypatch, capsys, *folders)
    assert code == 1
    assert "a.nii.gz: has" in err
    assert "fractions" in err


def test_names_of_classes_come_from_the_option_or_from_dataset_json(folders, monkeypatch, capsys):
    _, out, err = run(monkeypatch, capsys, *folders, "--classes", "1=anterior", "--json")
    assert json.loads(out)["classes"] == {"1": "anterior"}
    assert "left out: 3" in err
    (folders[0].parent / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "head", "3": "tail"}}), encoding="utf-8"
    )
    _, out, _ = run(monkeypatch, capsys, *folders, "--json")
    assert json.loads(out)["classes"] == {"1": "head", "3": "tail"}


@pytest.mark.parametrize(
    "options", [("--classes", "liver"), ("--classes", "1=a,1=b"), ("--tolerance-mm", "-1"), ("--workers", "0")]
)
def test_wrong_options_are_one_line(folders, options, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *folders, *options)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_the_table_shows_means_with_counts(folders, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *folders, "--name", "my [net]", "--tolerance-mm", "2")
    assert code == 0
    assert "my [net], 2 cases" in out
    dice = next(line for line in out.splitlines() if line.strip().startswith("dice"))
    assert dice.split() == ["dice", "1.000", "±", "0.000", "1.000", "2", "0", "0", "0"]
    assert "nsd (2 mm)" in out


def test_several_processes_give_what_one_gives(folders, monkeypatch, capsys):
    _, alone, _ = run(monkeypatch, capsys, *folders, "--json", "--workers", "1")
    monkeypatch.setattr(command, "_WORTH_A_POOL_BYTES", 0)
    _, together, _ = run(monkeypatch, capsys, *folders, "--json", "--workers", "2")
    assert alone == together
