"""A registry that does not exist or does not answer is refused in one line within seconds; nothing is created."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.bundle import registry
from pipeline.bundle.registry import registered_folder, require_bundle
from pipeline.errors import BundleError

NAME = "models:/balls@champion"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    # A server on this machine is asked directly.
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Return the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of a server that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_without_a_tracking_uri_nothing_is_created_in_the_current_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no registry is named; set MLFLOW_TRACKING_URI"):
        registered_folder(NAME)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_exist_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(BundleError, match=r"absent\.db, does not exist"):
        registered_folder(NAME)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_is_refused_before_mlflow_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    monkeypatch.setattr(registry, "_download", lambda *_: pytest.fail("it was asked"))
    with pytest.raises(BundleError, match=rf"http://127\.0\.0\.1:{port} does not answer") as caught:
        registered_folder(NAME)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_silent_is_refused(monkeypatch: pytest.MonkeyPatch, silent_server: int) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_server}")
    monkeypatch.setattr(registry, "ANSWER_S", 0.3)
    with pytest.raises(BundleError, match=r"gives no answer within 0\.3 s|timed out"):
        require_bundle(NAME)


@pytest.mark.parametrize("server", [502], indirect=True)
def test_a_proxy_in_front_of_a_server_that_is_down_is_refused(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(BundleError, match="answers with status 502"):
        require_bundle(NAME)


@pytest.mark.parametrize("server", [200, 401, 404], indirect=True)
def test_any_other_answer_shows_that_the_server_is_up(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    require_bundle(NAME)


@pytest.mark.parametrize("is_silent", [False, True])
def test_predict_ends_within_15_seconds_with_one_line(tmp_path: Path, silent_server: int, is_silent: bool) -> None:
    (tmp_path / "in").mkdir()
    port = silent_server if is_silent else free_port()
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "predict", NAME, "in", "--out", "out"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert time.monotonic() - started < 15
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {NAME}: MLflow at http://127.0.0.1:{port}")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
