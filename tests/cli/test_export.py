import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.bundle.manifest import identify
from pipeline.bundle.model import load_model
from pipeline.bundle.source import read_source
from pipeline.bundle.weights import final_weights
from pipeline.cli import export as export_command
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


def exported(study, out, *options):
    arguments = ["export", str(study.root), "--out", str(out), "--from", "folds", "--loss", "dice_ce", *options]
    result = runner.invoke(build_app(), [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads((out / "configs/metadata.json").read_text())


def test_codes_rules_author_and_license_are_those_that_are_given(tiny_study, tmp_path):
    codes = {"ball": {"type": "kidney", "modifiers": ["left"]}}
    rules = {"selections": [{"name": "crops", "conditions": {"Modality": "MR", "SliceThickness": [1, 2]}}]}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    out = tmp_path / "bundle"
    metadata = exported(
        tiny_study, out, "--codes", tmp_path / "codes.json", "--rules", tmp_path / "rules.json",
        "--author", "A. Nother, Hospital of B", "--license", "CC-BY-NC-4.0",
    )  # fmt: skip
    ball, small_ball = metadata["segloss"]["segments"].values()
    assert [code["meaning"] for code in (ball["type"], *ball["modifiers"])] == ["Kidney", "Left"]
    assert small_ball["type"]["scheme"] == "99SEGLOSS"
    assert metadata["segloss"]["series_rules"] == rules["selections"]
    assert metadata["authors"] == "A. Nother, Hospital of B"
    assert metadata["license"] == "CC-BY-NC-4.0"
    assert "CC-BY-NC-4.0" in (out / "LICENSE").read_text()
    card = (out / "docs/README.md").read_text()
    for text in ("A. Nother, Hospital of B", "CC-BY-NC-4.0", "Kidney (64033007, SCT), Left (7771000, SCT)", "crops"):
        assert text in card
    assert load_model(out).segments[1]["modifiers"][0]["value"] == "7771000"


def test_by_default_only_series_like_the_training_data_are_accepted(tiny_study, tmp_path):
    metadata = exported(tiny_study, tmp_path / "bundle", "--license", __file__)
    (rule,) = metadata["segloss"]["series_rules"]
    assert rule["conditions"] == {
        "Modality": "MR", "Rows": [12, 16], "Columns": [12, 16], "NumberOfSlices": [12, 16],
        "PixelSpacing": [0.98, 1.53], "SpacingBetweenSlices": [0.98, 1.53],
    }  # fmt: skip
    assert (tmp_path / "bundle/LICENSE").read_text() == Path(__file__).read_text()


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--codes", '{"Nose": {"type": "spleen"}}', "Nose"),
        ("--codes", "", "JSON"),
        ("--rules", '[{"name": "one", "conditions": {"Modalty": "MR"}}]', "Modalty"),
        ("--rules", '"MR"', "must contain rules"),
        ("--license", None, "neither a file nor an SPDX identifier"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_made(option, content, said, tiny_study, tmp_path):
    given = tmp_path / "given it is.json"
    if content is not None:
        given.write_text(content)
    before = sorted(tiny_study.root.rglob("*"))
    result = runner.invoke(
        build_app(),
        ["export", str(tiny_study.root), "--out", str(tmp_path / "b"), "--loss", "dice_ce", option, str(given)],
    )
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
    assert not (tmp_path / "b").exists()
    assert sorted(tiny_study.root.rglob("*")) == before


def test_progress_and_time_left_are_lines_where_there_is_no_terminal(monkeypatch, capsys):
    now = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    monkeypatch.setattr(export_command.time, "monotonic", lambda: next(now))
    report = export_command._TerminalProgress(None).stage("training dice on all cases", 100)
    for done in (10, 40, 60, 100):
        report(done)
    assert capsys.readouterr().err.splitlines() == [
        "training dice on all cases: 0 of 100",
        "training dice on all cases: 40 of 100, about 39 s left",
        "training dice on all cases: done in 40 s",
    ]


def test_every_stage_of_an_export_is_reported(tiny_study, tmp_path):
    result = runner.invoke(
        build_app(), ["export", str(tiny_study.root), "--out", str(tmp_path / "b"), "--loss", "dice_ce"]
    )
    for stage in ("training dice_ce on all cases", "checking out-of-fold masks", "writing the bundle"):
        assert f"{stage}" in result.stderr
    assert "training dice_ce on all cases: 0 of 20" in result.stderr


def test_a_final_training_uses_no_more_threads_than_a_run_of_the_study(tiny_study, monkeypatch):
    """More threads than the study's wait for each other; then the time that the study took says nothing."""
    chosen = []
    source = read_source(tiny_study, "dice_ce")
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    final_weights(source, lambda step, of: None)
    assert chosen[-1] == source.threads


@pytest.mark.parametrize("inside", ["", "masks"])
def test_outputs_are_never_written_into_a_bundle(inside, copied, tiny_dataset):
    before = sorted(copied.rglob("*"))
    result = runner.invoke(
        build_app(), ["predict", str(copied), str(tiny_dataset / "imagesTr"), "--out", str(copied / inside)]
    )
    assert isinstance(result.exception, RecordError)
    assert "bundle" in str(result.exception)
    assert sorted(copied.rglob("*")) == before
    load_model(copied)


def test_a_table_in_a_bundle_is_named_and_no_reason_to_trust_code(copied):
    (copied / "eval").mkdir()
    (copied / "eval/val_dice_raw.csv").write_text("filename,class0\n")
    with pytest.raises(BundleError, match=r"val_dice_raw\.csv") as caught:
        load_model(copied)
    assert "--allow-code" not in str(caught.value)
    assert "move it" in str(caught.value)
