import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from small_model import save_head, small_model

from pipeline.cli.app import build_app
from pipeline.errors import ConfigError, RecordError
from pipeline.system.folder_lock import exclusive

SCRIPT = Path(__file__).parents[2] / "scripts" / "hospital_batch.sh"


@pytest.fixture(autouse=True)
def _model(monkeypatch):
    monkeypatch.setattr("pipeline.bundle.model.load_model", lambda *_, **__: small_model())

    def picture(path, *_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")

    monkeypatch.setattr("pipeline.inference.case_steps.write_picture", picture)
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom", "nibabel")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def predict(*arguments):
    return CliRunner().invoke(build_app(), ["predict", "bundle", *map(str, arguments)])


def folder(tmp_path):
    save_head(tmp_path / "in" / "a.nii.gz", 0)
    save_head(tmp_path / "in" / "b.nii.gz", 1)
    (tmp_path / "in" / "c.nii.gz").write_bytes(b"")
    return tmp_path / "in"


def test_one_bad_case_gives_exit_code_1_a_line_and_a_manifest(tmp_path):
    result = predict(folder(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "[3/3] c: failed: is empty (0 bytes)" in result.stderr
    assert "[1/3] a: shell 1.69 mL, core 0.27 mL" in result.stderr
    assert "2 done, 1 failed" in result.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {case["case"]: case["status"] for case in manifest["cases"]} == {"a": "done", "b": "done", "c": "failed"}
    assert manifest["model"]["sha256"] == "ab" * 32
    assert manifest["versions"]["monai"]


def held_case(tmp_path):
    save_head(tmp_path / "in" / "wide.nii.gz", shape=(20, 90, 18))
    return tmp_path / "in"


def test_a_held_case_gives_exit_code_1_until_it_is_released(tmp_path):
    source, out = held_case(tmp_path), tmp_path / "out"
    for _ in range(2):
        result = predict(source, "--out", out)
        assert result.exit_code == 1
        assert "[1/1] wide: held: " in result.stderr
        assert "check: size back-front 90 voxels, trained on 16 to 32" in result.stderr
        assert "0 done, 1 held" in result.stdout
        assert "--release-warned" in result.stdout
    assert json.loads(predict(source, "--out", out, "--dry-run", "--json").stdout)["cases"][0]["plan"] == "skip"
    dry = predict(source, "--out", out, "--dry-run", "--json", "--release-warned")
    assert json.loads(dry.stdout)["cases"][0]["plan"] == "predict"
    result = predict(source, "--out", out, "--release-warned")
    assert result.exit_code == 0
    assert "check: size back-front 90 voxels" in result.stderr
    assert predict(source, "--out", out).exit_code == 0


def test_strict_makes_a_warning_a_failure(tmp_path):
    source, out = held_case(tmp_path), tmp_path / "out"
    result = predict(source, "--out", out, "--strict")
    assert result.exit_code == 1
    assert "wide: failed: refused by --strict: size back-front 90 voxels" in result.stderr
    assert not list(out.glob("masks/*"))
    both = predict(source, "--out", out, "--strict", "--release-warned")
    assert isinstance(both.exception, ConfigError)


def test_json_prints_only_the_manifest(tmp_path):
    result = predict(folder(tmp_path), "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "manifest.json").read_text())


def test_dry_run_lists_the_plan_and_writes_nothing(tmp_path):
    source, out = folder(tmp_path), tmp_path / "out"
    result = predict(source, "--out", out, "--dry-run")
    assert result.exit_code == 0
    assert not out.exists()
    assert result.stdout.count("predict") == 3
    predict(source / "a.nii.gz", "--out", out)
    plans = {
        case["case"]: case["plan"]
        for case in json.loads(predict(source, "--out", out, "--dry-run", "--json").stdout)["cases"]
    }
    assert plans == {"a": "skip", "b": "predict", "c": "predict"}


def test_a_second_batch_on_one_output_is_refused(tmp_path):
    with exclusive(tmp_path / "out"):
        result = predict(folder(tmp_path), "--out", tmp_path / "out")
    assert isinstance(result.exception, RecordError)
    assert "in use by process" in str(result.exception)


@pytest.mark.parametrize("options", [["--precision", "half"], ["--watch", "0"]])
def test_wrong_settings_are_one_line(tmp_path, options):
    result = predict(folder(tmp_path), "--out", tmp_path / "out", *options)
    assert isinstance(result.exception, ConfigError)


def test_results_of_bfloat16_and_float32_are_not_confused(tmp_path):
    source, out = folder(tmp_path) / "a.nii.gz", tmp_path / "out"
    predict(source, "--out", out)
    assert "done before" in predict(source, "--out", out).stdout
    assert "done before" not in predict(source, "--out", out, "--precision", "bfloat16").stdout


def test_emulation_of_bfloat16_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.network.precision.bfloat16_slowdown", lambda device: 38.0)
    source = folder(tmp_path) / "a.nii.gz"
    assert "takes 38 times as long" in predict(source, "--out", tmp_path / "out", "--precision", "bfloat16").stderr
    assert "takes 38 times as long" not in predict(source, "--out", tmp_path / "out").stderr


def test_watching_predicts_present_cases_and_ends_on_sigterm(tmp_path, monkeypatch):
    import pipeline.inference.watching as watching

    def sleep_then_end(seconds):
        if (tmp_path / "out" / "masks" / "a.nii.gz").exists():
            os.kill(os.getpid(), 15)
        clock.append(1)

    clock = []
    monkeypatch.setattr(watching.time, "sleep", sleep_then_end)
    monkeypatch.setattr(watching.Watch, "_is_quiet", lambda self, signature, since: bool(clock))
    monkeypatch.setattr(watching.watch, "__defaults__", (sleep_then_end,))
    result = predict(folder(tmp_path), "--out", tmp_path / "out", "--watch", "1")
    assert result.exit_code == 1
    assert "stopping after the current case" in result.stderr
    assert (tmp_path / "out" / "index.html").exists()


def fake_whichloss(tmp_path, code):
    path = tmp_path / "whichloss"
    path.write_text(f'#!/bin/sh\necho "called with: $*"\nexit {code}\n')
    path.chmod(0o755)
    return path


def nightly(tmp_path, code=0, **environment):
    return subprocess.run(
        [SCRIPT, "bundle", "in put", tmp_path / "out", "--probabilities"],
        env={**os.environ, "SEGLOSS": str(fake_whichloss(tmp_path, code)), "NICE": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_nightly_script_returns_the_exit_code_and_logs_it(tmp_path, code):
    done = nightly(tmp_path, code)
    assert done.returncode == code
    (log,) = (tmp_path / "out" / "logs").glob("*.log")
    text = log.read_text()
    assert f"called with: predict bundle in put --out {tmp_path / 'out'} --probabilities" in text
    assert f"with exit code {code}" in text
    assert log.stat().st_mode & 0o077 == 0


def test_the_nightly_script_removes_only_old_logs(tmp_path):
    logs = tmp_path / "out" / "logs"
    logs.mkdir(parents=True)
    for day in range(1, 6):
        (logs / f"2020-01-0{day}T02-00-00.log").write_text("old")
    (logs / "notes.log").write_text("mine")
    assert nightly(tmp_path, KEEP_LOGS="2").returncode == 0
    left = sorted(path.name for path in logs.glob("*.log"))
    assert len(left) == 3
    assert left[0] == "2020-01-05T02-00-00.log"
    assert left[-1] == "notes.log"


def test_a_nightly_run_does_not_start_while_the_previous_one_is_in_progress(tmp_path):
    import fcntl

    (tmp_path / "out" / "logs").mkdir(parents=True)
    with (tmp_path / "out" / "logs" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = nightly(tmp_path)
    assert done.returncode == 75
    assert "still in progress" in done.stderr
