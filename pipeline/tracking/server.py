"""An MLflow server for users of this machine: on 127.0.0.1, without services that run code for a visitor."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from pipeline.errors import ConfigError, RecordError
from pipeline.system.operating_system import end_group

HOST = "127.0.0.1"
FIRST_PORT = 5000
READY_WITHIN_S = 90.0
LAST_PORT = FIRST_PORT + 49
END_WITHIN_S = 5.0

RESTRICTIONS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Environment of the server: no jobs, no pickles, no telemetry."""


def choose_port(requested: int | None) -> int:
    """Return the requested port, or the first free one from 5000.

    Raises
    ------
    ConfigError
        If the requested port is taken, or no port from 5000 to 5049 is free.
    """
    if requested is not None:
        if not _is_free(requested):
            raise ConfigError(f"--port {requested}", "is taken or not allowed", "use another, or omit the option")
        return requested
    for port in range(FIRST_PORT, LAST_PORT + 1):
        if _is_free(port):
            return port
    raise ConfigError("--port", f"must be given: no port from {FIRST_PORT} to {LAST_PORT} is free", "use another one")


class LocalServer:
    """A context in which MLflow's server shows one database; the server and its workers end with the context.

    Parameters
    ----------
    uri
        Address of the database.
    artifacts
        URI of the folder of the artifacts.
    port
        Port on 127.0.0.1.
    log
        File for the output of the server.
    """

    def __init__(self, uri: str, artifacts: str, port: int, log: Path) -> None:
        self.uri, self.artifacts, self.port, self.log = uri, artifacts, port, log
        self.address = f"http://{HOST}:{port}"

    def __enter__(self) -> "LocalServer":
        from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

        stores = {BACKEND_STORE_URI_ENV_VAR: self.uri, ARTIFACT_ROOT_ENV_VAR: self.artifacts}
        command = [sys.executable, "-m", "uvicorn", "pipeline.tracking.restricted_app:app", "--workers", "1"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--host", HOST, "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **RESTRICTIONS, **stores},
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
                raise RecordError(
                    self.log, f"shows why MLflow's server ended with code {self.process.returncode}", "read it"
                )
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise RecordError(self.log, f"shows why MLflow's server is not ready after {READY_WITHIN_S:g} s", "read it")

    def _end(self) -> None:
        for at_once in (False, True):
            try:
                # The server leads a group of its own: its workers are in it.
                end_group(self.process.pid, at_once=at_once)
                self.process.wait(END_WITHIN_S)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # A port of a server that has just ended is free, although the kernel holds it back for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
