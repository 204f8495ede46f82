"""Signals stop `whichloss predict`: exit codes, the manifest, and a read that never returns."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from commands import ended, ended_within, start
from small_model import save_head, small_model

from pipeline.cli.failures import Stopped, stop_on_signals
from pipeline.inference import case_steps

CASES = 12
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _slow_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: Path, *_: object) -> None:
        time.sleep(0.05)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")

    monkeypatch.setattr("pipeline.bundle.model.load_model", lambda *_, **__: small_model())
    monkeypatch.setattr(case_steps, "write_picture", slowly)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(CASES):
        save_head(tmp_path / "in" / f"case{number:02d}.nii.gz", number)
    return tmp_path / "in"


def wait_until(claim: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "masks").glob("case*.nii.gz")}


def manifest(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "manifest.json").read_text())
    return content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_batch_has_its_own_exit_code_and_lists_cases_not_started(
    images: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = ["predict", "bundle", str(images), "--out", str(out)]
    child = start(command, tmp_path / "said")
    wait_until(lambda: len(masks(out)) >= 3)
    os.kill(child, number)
    assert ended_within(child, PATIENCE_S) == 128 + number
    said = (tmp_path / "said").read_text().splitlines()
    assert f"stopped by {number.name}; the same command continues" in said

    content = manifest(out)
    states = Counter(case["status"] for case in content["cases"])
    assert states.keys() == {"done", "not_started"}
    assert states.total() == CASES
    assert content["counts"] == {
        "done": states["done"],
        "held": 0,
        "failed": 0,
        "skipped": 0,
        "not_started": CASES - len(masks(out)),
    }
    assert content["finished"] is None
    assert f"{states['not_started']} not started" in (out / "index.html").read_text()
    assert (out / "manifest.csv").read_text().count(",not_started,") == states["not_started"]

    assert ended(start(command, tmp_path / "said")) == 0
    assert manifest(out)["counts"] == {"done": states["not_started"], "held": 0, "failed": 0, "skipped": states["done"]}
    assert ended(start([*command[:-1], str(tmp_path / "whole")], tmp_path / "said")) == 0
    assert masks(out) == masks(tmp_path / "whole")


def test_a_signal_during_the_last_case_stops_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_the_end(path: Path, *_: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
        if path.stem == f"case{CASES - 1:02d}":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(case_steps, "write_picture", stop_at_the_end)
    child = start(["predict", "bundle", str(images), "--out", str(tmp_path / "out")], tmp_path / "said")
    assert ended_within(child, PATIENCE_S) == 0
    assert manifest(tmp_path / "out")["counts"] == {"done": CASES, "held": 0, "failed": 0, "skipped": 0}


@pytest.mark.parametrize("is_in_main_thread", [True, False])
def test_a_second_sigterm_ends_a_process_whose_read_never_returns(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_main_thread: bool
) -> None:
    def never_returns(*_: object) -> None:
        (tmp_path / "hangs").touch()
        time.sleep(1000)

    monkeypatch.setattr(case_steps, "check_images" if not is_in_main_thread else "score", never_returns)
    child = start(["predict", "bundle", str(images), "--out", str(tmp_path / "out")], tmp_path / "said")
    wait_until((tmp_path / "hangs").exists)
    os.kill(child, signal.SIGTERM)
    wait_until(lambda: "stopping after the current case" in (tmp_path / "said").read_text())
    time.sleep(0.5)
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the first signal waits for the current case"
    os.kill(child, signal.SIGTERM)
    assert ended_within(child, 5) == 128 + signal.SIGTERM
    assert "ended by a second SIGTERM; the same command continues" in (tmp_path / "said").read_text()


def test_a_signal_that_timeout_sends_twice_counts_once(images: Path, tmp_path: Path) -> None:
    """GNU timeout signals its child, and then the whole process group, which includes the child."""
    out = tmp_path / "out"
    child = start(["predict", "bundle", str(images), "--out", str(out)], tmp_path / "said")
    wait_until(lambda: len(masks(out)) >= 3)
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGTERM)
    assert ended_within(child, PATIENCE_S) == 128 + signal.SIGTERM
    assert "not_started" in manifest(out)["counts"]


def test_the_nightly_script_stops_its_batch_and_logs_the_exit_code(tmp_path: Path) -> None:
    whichloss = tmp_path / "whichloss"
    whichloss.write_text(f"#!/bin/sh\ntrap 'sleep 0.3; exit 143' TERM\ntouch {tmp_path}/runs\nsleep 60 & wait\n")
    whichloss.chmod(0o755)
    script = Path(__file__).parents[2] / "scripts" / "hospital_batch.sh"
    running = subprocess.Popen(
        [script, "bundle", "in", tmp_path / "out"],
        env={**os.environ, "SEGLOSS": str(whichloss), "NICE": "0"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until((tmp_path / "runs").exists)
        running.terminate()
        assert running.wait(10) == 143
    finally:
        with suppress(ProcessLookupError):  # the batch was stopped before it started its `sleep`
            os.killpg(running.pid, signal.SIGKILL)
    (log,) = (tmp_path / "out" / "logs").glob("*.log")
    assert "with exit code 143" in log.read_text()


def test_signal_handlers_are_restored_after_a_command() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Stopped, match="SIGTERM"), stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
