import json

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import build_app
from pipeline.errors import ConfigError

ARGUMENTS = [
    "--losses", "ce,dice", "--fractions", "0.05", "--seeds", "1", "--cases", "4", "--budget", "10steps",
    "--edge", "16", "--learning-rates", "0.01", "--jobs", "1",
]  # fmt: skip


def call(*arguments):
    return CliRunner().invoke(build_app(), ["sweep", *map(str, arguments)])


def test_a_sweep_leaves_table_page_and_figure_and_json_is_the_only_output(tmp_path):
    out = tmp_path / "sweep"
    result = call("--out", out, *ARGUMENTS, "--json")
    found = json.loads(result.stdout)
    assert {(p["loss"], p["metric"]) for p in found["points"]} == {
        (loss, metric) for loss in ("ce", "dice") for metric in ("dice", "hausdorff95_mm")
    }
    assert all(p["runs"] == 2 for p in found["points"])
    collapsed = any(p["collapsed"] for p in found["points"])
    assert result.exit_code == (1 if collapsed else 0)
    for name in ("table", "page", "figure"):
        assert (tmp_path / "sweep").joinpath(found[name].rsplit("/", 1)[1]).stat().st_size > 300
    again = call("--out", out, *ARGUMENTS)
    assert "Dice" in again.stdout
    assert "5 %" in again.stdout
    assert "sweep.html" in again.stdout.replace("\n", "")


@pytest.mark.parametrize("arguments", [["--fractions", "much"], ["--fractions", "0"], ["--learning-rates", "x"]])
def test_arguments_that_are_not_numbers_are_refused(tmp_path, arguments):
    result = call("--out", tmp_path / "sweep", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert arguments[0] in str(result.exception)
    assert not (tmp_path / "sweep").exists()
