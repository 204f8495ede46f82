"""An MLflow server for people at this machine: on 127.0.0.1, with nothing that runs code for a visitor."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from pipeline.errors import ConfigError, RecordError

HOST = "127.0.0.1"
FIRST_PORT = 5000
READY_WITHIN_S = 90.0
CLOSED = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def choose_port(asked: int | None) -> int:
    """Return the port asked for, or the first free one from 5000; a `ConfigError` where the one asked for is taken."""
    if asked is not None:
        if not _is_free(asked):
            raise ConfigError(f"--port {asked}", "is taken or not allowed", "give another, or leave it out")
        return asked
    for port in range(FIRST_PORT, FIRST_PORT + 50):
        if _is_free(port):
            return port
    raise ConfigError("--port", f"none from {FIRST_PORT} to {FIRST_PORT + 49} is free", "give one with --port")


class LocalServer:
    """A context in which MLflow's server shows one database; it ends with the context, workers included."""

    def __init__(self, uri: str, artifacts: str, port: int, log: Path) -> None:
        self.uri, self.artifacts, self.port, self.log = uri, artifacts, port, log
        self.address = f"http://{HOST}:{port}"

    def __enter__(self) -> "LocalServer":
        from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

        where = {BACKEND_STORE_URI_ENV_VAR: self.uri, ARTIFACT_ROOT_ENV_VAR: self.artifacts}
        command = [sys.executable, "-m", "uvicorn", "pipeline.tracking.restricted_app:app", "--workers", "1"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--host", HOST, "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **CLOSED, **where},
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def wait(self) -> int:
        """Wait for the server to end by itself and return its exit code."""
        return self.process.wait()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RecordError(self.log, f"MLflow's server ended with code {self.process.returncode}", "read why")
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise RecordError(self.log, f"MLflow's server is not ready after {READY_WITHIN_S:g} s", "read why")

    def _end(self) -> None:
        for number, within_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(within_s)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
