import json

import pytest
from typer.testing import CliRunner

from pipeline.bundle.manifest import identify
from pipeline.bundle.model import load_model
from pipeline.cli.app import build_app
from pipeline.errors import BundleError, ConfigError, RecordError

runner = CliRunner()


def test_json_names_the_bundle_by_its_hash(tiny_study, tmp_path):
    out = tmp_path / "bundle"
    result = runner.invoke(
        build_app(),
        ["export", str(tiny_study.root), "--out", str(out), "--from", "folds", "--loss", "weighted_ce", "--json"],
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["loss"] == "weighted_ce"
    assert told["networks"] == 2
    assert told["sha256"] == identify(out) == load_model(out).sha256
    train = json.loads((out / "configs/train.json").read_text())
    background, ball, small_ball = train["class_weights"]
    assert background < ball < small_ball
    assert train["loss"]["weight"] == "$torch.tensor(@class_weights, device=@device)"
    assert "2 times as long a case" in result.stderr
    assert "one training on all cases, about" in result.stderr


def test_costs_are_said_without_making_anything(tiny_study):
    before = sorted(tiny_study.root.rglob("*"))
    result = runner.invoke(build_app(), ["export", str(tiny_study.root), "--costs", "--json"])
    assert json.loads(result.stdout)["folds"] == {"training_seconds": 0.0, "networks": 2}
    assert sorted(tiny_study.root.rglob("*")) == before


def test_wrong_requests_are_one_line(tiny_study, tmp_path):
    def error_of(*arguments):
        result = runner.invoke(build_app(), ["export", *map(str, arguments)])
        return result.exception

    assert isinstance(error_of(tiny_study.root), ConfigError)
    assert isinstance(error_of(tmp_path, "--out", tmp_path / "b"), RecordError)
    assert isinstance(error_of(tiny_study.root, "--out", tmp_path / "b", "--loss", "nothing"), BundleError)
    assert isinstance(error_of(tiny_study.root, "--out", tiny_study.root), BundleError)
    assert isinstance(error_of(tiny_study.root, "--out", tmp_path / "b", "--version", "newest"), BundleError)


@pytest.mark.parametrize("option", ["--out", "--loss", "--from", "--register"])
def test_help_names_every_option(option):
    assert option in runner.invoke(build_app(), ["export", "--help"], env={"COLUMNS": "200"}).stdout
