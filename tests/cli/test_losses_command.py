import json
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.cli.app import main
from pipeline.losses.catalogue import CATALOGUE


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["whichloss", "losses", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out, said.err


def test_json_lists_every_loss_with_all_that_is_known_of_it(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert [entry["name"] for entry in found] == list(CATALOGUE)
    assert all(set(entry) == {"name", "formula", "gradient", "reference", "advice"} for entry in found)
    assert all(all(entry.values()) for entry in found)


def test_the_table_fits_eighty_columns_and_names_every_loss(monkeypatch, capsys):
    from pipeline.cli.losses import console

    monkeypatch.setattr(console, "_width", 80)
    code, out, _ = run(monkeypatch, capsys)
    table = out.split("p: predicted")[0]
    assert code == 0
    assert max(map(len, table.splitlines())) <= 80
    first_words = [line.split()[0] for line in table.splitlines() if line[:1].strip() or line[1:2].strip()]
    assert set(CATALOGUE) <= set(first_words)


@pytest.mark.parametrize("panel", range(4))
def test_closed_forms_are_what_autograd_gives(panel):
    from pipeline.losses.gradients import gradient_panels

    for curve in gradient_panels()[panel].curves:
        expected = curve.closed_form(curve.at)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(curve.autograd, expected, rtol=1e-3, atol=1e-6 * scale, err_msg=curve.label)
        np.testing.assert_array_equal(curve.y, curve.closed_form(curve.x))


def test_closed_forms_have_the_values_worked_out_by_hand():
    from pipeline.losses import gradients

    half = np.array([0.5])
    assert gradients.cross_entropy_gradient(half, 1.0) == -0.5
    assert gradients.dice_gradient(half, 0.5) == 0.5
    assert gradients.dice_gradient(np.array([0.0]), 0.01) == pytest.approx(2)
    assert gradients.dice_squared_gradient(half, 0.5) == 0
    assert gradients.dice_squared_gradient(np.array([0.0]), 0.01) == pytest.approx(200)
    assert gradients.dice_squared_gradient(np.array([0.02]), 0.01) == pytest.approx(-24)


def test_the_picture_holds_a_line_and_dots_for_every_curve(tmp_path, monkeypatch, capsys):
    from pipeline.losses.gradients import gradient_panels

    code, _, err = run(monkeypatch, capsys, "--plot", tmp_path / "gradients.svg", "--json")
    assert code == 0
    assert "gradients.svg" in err
    ids = [element.get("id", "") for element in ElementTree.parse(tmp_path / "gradients.svg").iter()]
    for panel in gradient_panels():
        for curve in panel.curves:
            assert f"closed form {curve.label}" in ids
            assert f"autograd {curve.label}" in ids


def test_a_png_is_a_png(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--plot", tmp_path / "gradients.png")[0] == 0
    assert (tmp_path / "gradients.png").read_bytes().startswith(b"\x89PNG")


def test_another_kind_of_file_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "--plot", tmp_path / "gradients.txt")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "gradients.txt").exists()


def test_the_gradient_of_dice_is_not_said_to_blow_up():
    assert "blows up" not in CATALOGUE["dice"].gradient
