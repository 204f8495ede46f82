import json

import pandas as pd
import pytest

from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.study import run_folders
from pipeline.records.table import COLUMNS, Score, read_table, scores_frame, write_table

HOSTILE = ["=cmd|'/c calc'!A1", "+1", "-2+3", "@SUM(A1)", "'=1", "''=1", "'quoted", "plain", "ünïcode ☃"]


def test_no_cell_of_the_table_is_a_formula_and_names_come_back(tmp_path):
    frame = scores_frame("dice", 0, 1, [Score(name, name, "dice", 0.5, "ok") for name in HOSTILE])
    write_table(tmp_path / "cases.csv", frame)
    for line in (tmp_path / "cases.csv").read_text().splitlines():
        assert not any(cell.strip('"').startswith(("=", "+", "-", "@")) for cell in line.split(",")), line
    pd.testing.assert_frame_equal(read_table(tmp_path / "cases.csv"), frame, check_dtype=False)


@pytest.mark.parametrize("value", [-0.25, 1e-7, 0.1 + 0.2])
def test_numbers_come_back_to_the_last_bit(tmp_path, value):
    write_table(tmp_path / "cases.csv", scores_frame("dice", 0, 1, [Score("a", "b", "volume_error_ml", value, "ok")]))
    assert read_table(tmp_path / "cases.csv")["value"].tolist() == [value]


def test_the_tolerance_stands_beside_surface_dice_and_is_empty_elsewhere(tmp_path):
    scores = [Score("a", "b", "nsd", 0.9, "ok", 1.5), Score("a", "b", "dice", 0.8, "ok")]
    write_table(tmp_path / "cases.csv", scores_frame("ce", 0, 0, scores))
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    assert lines[0].split(",") == list(COLUMNS)
    assert lines[1:] == ["ce,0,0,a,b,nsd,0.9,ok,1.5", "ce,0,0,a,b,dice,0.8,ok,"]
    assert read_table(tmp_path / "cases.csv")["tolerance_mm"].tolist()[0] == 1.5


def test_each_case_can_have_a_fold_of_its_own():
    scores = [Score(case, "x", "dice", 0.5, "ok") for case in "ab"]
    assert scores_frame("ce", {"a": 3, "b": 0}, 2, scores)[["fold", "seed"]].to_numpy().tolist() == [[3, 2], [0, 2]]


def test_runs_of_before_the_tolerance_was_stored_are_gathered_with_later_ones(tmp_path):
    study = StudyFolder(tmp_path)
    runs = [{"loss": "ce", "fold": fold, "seed": 0} for fold in (0, 1)]
    study.settings.write_text(json.dumps({"runs": runs}))
    for folder in run_folders(study):
        folder.record.parent.mkdir(parents=True)
        folder.record.write_text("{}")
        frame = scores_frame("ce", folder.key.fold, 0, [Score("a", "x", "nsd", 0.5, "ok", 2.0)])
        write_table(folder.cases, frame if folder.key.fold else frame.drop(columns="tolerance_mm"))
    found = gather_cases(study)
    assert list(found.columns) == list(COLUMNS)
    assert found["tolerance_mm"].isna().tolist() == [True, False]
