import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.cli.app import main
from pipeline.metrics import evaluation
from pipeline.metrics.case_evaluation import METRICS


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
    monkeypatch.setattr("sys.argv", ["whichloss", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    return stopped.value.code or 0, printed.out, printed.err


def test_the_panel_of_two_folders(folders, tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *folders, "--out", tmp_path / "cases.csv", "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert (printed["loss"], printed["cases"], printed["classes"]) == ("net", 2, {"1": "1", "3": "3"})
    dice = next(row for row in printed["summary"] if row["class"] == "3" and row["metric"] == "dice")
    assert (dice["mean"], dice["defined"], dice["missed"]) == (0.5, 2, 1)
    table = pd.read_csv(tmp_path / "cases.csv", dtype={"class": str})
    assert list(table.columns) == ["loss", "fold", "seed", "case", "class", "metric", "value", "state", "tolerance_mm"]
    assert (set(table["fold"]), set(table["seed"])) == ({0}, {0})
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
    assert {row["metric"] for row in rows} == set(METRICS)


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
    "options",
    [
        ("--classes", "liver"),
        ("--classes", "1=a,1=b"),
        ("--tolerance-mm", "-1"),
        ("--workers", "0"),
        ("--tolerance-mm", "4=1"),
        ("--fold", "-1"),
        ("--seed", "-1"),
        ("--splits", "nowhere.json"),
    ],
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
    monkeypatch.setattr(evaluation, "MINIMUM_POOL_BYTES", 0)
    _, together, _ = run(monkeypatch, capsys, *folders, "--json", "--workers", "2")
    assert alone == together


def table_of(monkeypatch, capsys, tmp_path, *arguments):
    path = tmp_path / "cases.csv"
    code, _, err = run(monkeypatch, capsys, *arguments, "--out", path)
    return pd.read_csv(path), code, err


def test_loss_fold_and_seed_are_those_of_the_training(folders, tmp_path, monkeypatch, capsys):
    options = ("--loss", "dice_ce", "--fold", "3", "--seed", "2")
    table, _, _ = table_of(monkeypatch, capsys, tmp_path, *folders, *options)
    assert table[["loss", "fold", "seed"]].drop_duplicates().to_numpy().tolist() == [["dice_ce", 3, 2]]


@pytest.fixture
def splits(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]), encoding="utf-8")
    return path


def test_splits_give_each_case_its_fold_and_leave_out_what_has_none(folders, splits, tmp_path, monkeypatch, capsys):
    for folder in folders:
        write(folder / "test.nii.gz", labels(1))
    table, code, err = table_of(monkeypatch, capsys, tmp_path, *folders, "--splits", splits)
    assert code == 0
    assert dict(zip(table["case"], table["fold"], strict=True)) == {"a": 1, "b": 0}
    assert "test.nii.gz: is in no validation set of" in err


def test_a_fold_of_the_splits_is_evaluated_alone_and_its_missing_predictions_are_named(
    folders, splits, tmp_path, monkeypatch, capsys
):
    _, predictions = folders
    (predictions / "b.nii").unlink()
    table, code, err = table_of(monkeypatch, capsys, tmp_path, *folders, "--splits", splits, "--fold", "1")
    assert (code, err) == (0, "")
    assert set(zip(table["case"], table["fold"], strict=True)) == {("a", 1)}
    code, _, err = run(monkeypatch, capsys, *folders, "--splits", splits, "--fold", "0")
    assert code == 2
    assert "b.nii.gz: does not exist" in err
    code, _, err = run(monkeypatch, capsys, *folders, "--splits", splits, "--fold", "7")
    assert code == 2
    assert "give 0 to 1" in err


def test_tables_of_two_folds_and_two_losses_are_concatenated_and_compared(
    folders, splits, tmp_path, monkeypatch, capsys
):
    references, predictions = folders
    tables = []
    for loss in ("ce", "dice"):
        for fold in ("0", "1"):
            arguments = (references, predictions, "--splits", splits, "--fold", fold, "--loss", loss)
            tables.append(table_of(monkeypatch, capsys, tmp_path, *arguments)[0])
    whole = pd.concat(tables)
    assert not whole.duplicated(["loss", "fold", "seed", "case", "class", "metric"]).any()
    assert whole.groupby("loss")["case"].nunique().tolist() == [2, 2]


@pytest.mark.parametrize(
    "content", ["[]", "{}", "[1]", '[{"train": []}]', '[{"val": ["a"]}, {"val": ["a"]}]', "not json"]
)
def test_a_file_that_is_not_splits_is_refused_in_one_line(content, folders, splits, monkeypatch, capsys):
    splits.write_text(content, encoding="utf-8")
    code, _, err = run(monkeypatch, capsys, *folders, "--splits", splits)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "splits_final.json" in err


def test_the_default_tolerance_is_the_pixel_of_all_references_and_is_stored(
    folders, splits, tmp_path, monkeypatch, capsys
):
    for case, spacing in (("a", 1.5), ("b", 1.5), ("c", 4.0)):
        write(folders[0] / f"{case}.nii.gz", labels(1), affine=np.diag([spacing, spacing, 10.0, 1]))
        write(folders[1] / f"{case}.nii.gz", labels(1), affine=np.diag([spacing, spacing, 10.0, 1]))
    (folders[1] / "b.nii").unlink()
    table, _, _ = table_of(monkeypatch, capsys, tmp_path, *folders)
    assert table.groupby("metric")["tolerance_mm"].unique()["nsd"].tolist() == [1.5]
    assert table[table["metric"] != "nsd"]["tolerance_mm"].isna().all()
    splits.write_text(json.dumps([{"val": ["c"]}, {"val": ["a", "b"]}]), encoding="utf-8")
    one_fold, _, _ = table_of(monkeypatch, capsys, tmp_path, *folders, "--splits", splits, "--fold", "0")
    assert one_fold["tolerance_mm"].dropna().unique().tolist() == [1.5]


def test_a_class_has_its_own_tolerance(folders, tmp_path, monkeypatch, capsys):
    options = ("--classes", "1=lesion,3=organ", "--tolerance-mm", "lesion=1,organ=3")
    table, _, _ = table_of(monkeypatch, capsys, tmp_path, *folders, *options)
    stored = table[table["metric"] == "nsd"].groupby("class")["tolerance_mm"].unique()
    assert {name: list(values) for name, values in stored.items()} == {"lesion": [1.0], "organ": [3.0]}
    _, out, _ = run(monkeypatch, capsys, *folders, *options)
    assert "nsd (1 mm)" in out
    assert "nsd (3 mm)" in out
