import pandas as pd
import pytest

from pipeline.records.table import Score, read_table, scores_frame, write_table

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
