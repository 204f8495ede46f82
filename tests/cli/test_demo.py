import json
import time

import pytest

import pipeline.cli.demo
from pipeline.cli.app import main


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["whichloss", "demo", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    return stopped.value.code or 0, printed.out, printed.err


def test_a_tiny_demo_ends_with_a_verdict_and_is_shown_again_at_once(tmp_path, monkeypatch, capsys):
    """Too few steps to learn from: a loss may miss a structure for good, which is exit code 1."""
    monkeypatch.setattr(pipeline.cli.demo, "SHAPE", (16, 16, 16))
    monkeypatch.setattr(pipeline.cli.demo, "CASES", 4)
    monkeypatch.setattr(pipeline.cli.demo, "FOLDS", 2)
    code, out, _ = run(monkeypatch, capsys, "--out", tmp_path / "demo", "--steps", 10, "--seed", 5, "--json")
    verdict = json.loads(out)
    assert code in (0, 1)
    assert verdict["verdict"] in ("winner", "equivalent", "inconclusive")
    assert {entry["name"] for entry in verdict["losses"]} == {"dice", "dice_ce"}
    study = tmp_path / "demo" / "study"
    report = (study / "report.html").stat()
    assert (study / "mlflow.db").exists()

    started = time.monotonic()
    again = run(monkeypatch, capsys, "--out", tmp_path / "demo", "--steps", 10, "--seed", 5)
    assert time.monotonic() - started < 5
    assert again[0] == code
    assert str(study / "report.html") in again[1]
    assert f"whichloss ui {study}" in again[1]
    assert "What a mean hides" in again[1]
    assert (study / "report.html").stat().st_mtime_ns == report.st_mtime_ns

    refused = run(monkeypatch, capsys, "--out", tmp_path / "demo", "--steps", 10, "--seed", 6)
    assert refused[:2] == (2, "")
    assert "--seed 5" in refused[2]


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    code, out, err = run(monkeypatch, capsys, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert "not empty" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
