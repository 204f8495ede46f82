"""MLflow as a mirror of the records: it can be late, lost and rebuilt, and training never waits for it."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.study.lock import exclusive
from pipeline.study.mirror.wanted import StudyRecords

if TYPE_CHECKING:
    from pipeline.study.mirror.replay import Replay

INTERVAL_S = 5.0
LONGEST_PAUSE_S = 60.0
STOP_WITHIN_S = 30.0
_IMPATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """What one replay did: how many runs were made and points logged by it; `problem` says why it could not."""

    reached: bool
    uri: str
    experiment_id: str | None = None
    study_id: str | None = None
    runs: dict[str, str] = field(default_factory=dict)
    created_runs: int = 0
    logged_points: int = 0
    seconds: float = 0.0
    problem: str | None = None

    def warning(self, study: StudyFolder) -> str | None:
        """Return the line to show where MLflow was not reached, else None."""
        if self.reached:
            return None
        return f"MLflow not reached ({self.problem}); the record is complete, `segloss track {study.root}` replays it"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def default_uri(study: StudyFolder) -> str:
    """Return the database inside the study."""
    return f"sqlite:///{study.root.resolve() / 'mlflow.db'}"


def artifact_location(study: StudyFolder) -> str:
    """Return where the files beside that database are kept, as a URI."""
    return (study.root.resolve() / "mlartifacts").as_uri()


def tracking_uri(study: StudyFolder, uri: str | None = None) -> str:
    """Return the address asked for, else ``MLFLOW_TRACKING_URI``, else the database inside the study."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(study)


def mirror_study(study: StudyFolder, uri: str | None = None, live: bool = False) -> MirrorResult:
    """Bring MLflow to the state of the records; where it is there already, nothing is logged.

    Parameters
    ----------
    study
        Read only; the database inside it is the one thing that is written.
    uri
        See `tracking_uri`.
    live
        Whether runs without a record are going on; else they show as KILLED, until they continue.

    Returns
    -------
    MirrorResult
        With `reached` false where the server does not answer within seconds.

    Raises
    ------
    RecordError
        Where `study` is none, or another process mirrors it at this moment.
    """
    with exclusive(study.root / ".mirror"):
        return _Session(study, tracking_uri(study, uri)).sync(live)


def mirror_for_reading(study: StudyFolder, uri: str | None = None) -> MirrorResult:
    """Bring MLflow up to date and return what is there; where another process is at it, only look.

    Raises
    ------
    RecordError
        Where MLflow cannot be reached, or holds nothing of this study.
    """
    try:
        result = mirror_study(study, uri)
    except RecordError:
        result = _Session(study, tracking_uri(study, uri)).look()
    if not result.reached:
        raise RecordError(
            result.uri, f"cannot be reached ({result.problem})", "check the address in MLFLOW_TRACKING_URI"
        )
    return result


def follow_study(
    study: StudyFolder,
    uri: str | None = None,
    interval_s: float = INTERVAL_S,
    on_sync: Callable[[MirrorResult], None] = lambda result: None,
) -> MirrorResult:
    """Mirror a study while it goes on; ends when it is complete, on SIGTERM or SIGINT, or with the parent process.

    The files are looked at every `interval_s` seconds, and MLflow is called where they changed. While it does not
    answer, the pauses double up to a minute. Call it in the main thread.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    parent = os.getppid()
    while True:
        try:
            with exclusive(study.root / ".mirror"):
                return _follow(study, tracking_uri(study, uri), interval_s, on_sync, stop, parent)
        except RecordError:
            if stop.wait(interval_s) or os.getppid() != parent:
                raise


def _follow(
    study: StudyFolder,
    uri: str,
    interval_s: float,
    on_sync: Callable[[MirrorResult], None],
    stop: threading.Event,
    parent: int,
) -> MirrorResult:
    seen: object = None
    session = _Session(study, uri)
    pause = interval_s
    while True:
        now = _state_of_files(study)
        if now != seen:
            result = session.sync(live=True)
            on_sync(result)
            seen = now if result.reached else None
            pause = interval_s if result.reached else min(2 * pause, LONGEST_PAUSE_S)
            if result.reached and study.verdict.exists() and all(run.record.exists() for run in study.runs()):
                return result
        if stop.wait(pause) or os.getppid() != parent:
            return session.sync(live=False)


class Mirror:
    """A process beside a study that mirrors it, so that a slow or dead server takes no time from the training.

    ::

        mirror = Mirror(study)
        mirror.start()
        ...                         # the study
        result = mirror.stop()      # one last replay, within a bounded time
        if result.warning(study): ...
    """

    def __init__(self, study: StudyFolder, uri: str | None = None) -> None:
        self.study = study
        self.uri = tracking_uri(study, uri)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, at a low priority and in a session of its own: Ctrl-C reaches the study alone."""
        self._process = self._track("--follow")

    def stop(self, within_s: float = STOP_WITHIN_S) -> MirrorResult:
        """Let it replay what is left and end; after `within_s` it is killed, and the result says so."""
        until = time.monotonic() + within_s
        result = None
        if self._process is not None:
            self._process.terminate()
            result = self._answer(self._process, until)
            self._process = None
        if result is None:
            result = self._answer(self._track(), until)
        return result or MirrorResult(False, self.uri, problem=f"no answer within {within_s:g} s")

    def _track(self, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "pipeline", "track", str(self.study.root), "--json", "--uri", self.uri]
        return subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def _answer(process: "subprocess.Popen[str]", until: float) -> MirrorResult | None:
        """Return what the process says; None where it says nothing, as when stopped before it had begun."""
        try:
            answer, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
            return MirrorResult(**json.loads(answer))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        except (ValueError, TypeError):
            pass
        return None


class _Session:
    """Replays of one study by one process; what the server holds is remembered between them."""

    def __init__(self, study: StudyFolder, uri: str) -> None:
        self.study = study
        self.uri = uri
        self._replay: Replay | None = None

    def sync(self, live: bool) -> MirrorResult:
        """Log what is missing."""

        def bring_all(replay: "Replay", records: StudyRecords) -> None:
            for wanted in records.wanted():
                replay.bring(wanted, live)

        return self._attempt(bring_all)

    def look(self) -> MirrorResult:
        """Read which runs are there and log nothing."""
        return self._attempt(lambda replay, records: None)

    def _attempt(self, work: "Callable[[Replay, StudyRecords], object]") -> MirrorResult:
        started = time.monotonic()
        records = StudyRecords.read(self.study)
        try:
            if self._replay is None:
                self._replay = self._open(records)
            replay = self._replay
            before = replay.created_runs, replay.logged_points
            work(replay, records)
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from requests.exceptions import RequestException
            from sqlalchemy.exc import SQLAlchemyError

            self._replay = None
            if not isinstance(error, MlflowException | RequestException | SQLAlchemyError | OSError):
                raise
            seconds = time.monotonic() - started
            return MirrorResult(False, self.uri, study_id=records.id, seconds=seconds, problem=_one_line(error))
        return MirrorResult(
            True,
            self.uri,
            replay.experiment_id,
            records.id,
            replay.run_ids(),
            replay.created_runs - before[0],
            replay.logged_points - before[1],
            time.monotonic() - started,
        )

    def _open(self, records: StudyRecords) -> "Replay":
        for name, value in _IMPATIENCE.items():
            os.environ.setdefault(name, value)
        from pipeline.study.mirror.replay import Replay

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        inside = self.uri == default_uri(self.study)
        if inside:
            _forget_database_of_another_place(self.study)
        replay = Replay(self.uri, records.id)
        replay.open(records.settings["name"], artifact_location(self.study) if inside else None)
        return replay


def _forget_database_of_another_place(study: StudyFolder) -> None:
    """Put aside the database of a study that was moved or copied: its artifacts' paths are absolute, and wrong now."""
    database = study.root / "mlflow.db"
    if not database.exists():
        return
    query = (
        "SELECT artifact_location FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = 'segloss.study_id'"
    )
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            places = [row[0] for row in connection.execute(query)]
    except sqlite3.Error:
        return
    if places and artifact_location(study) not in places:
        database.replace(database.with_suffix(".db.moved"))


def _state_of_files(study: StudyFolder) -> list[tuple[str, int, int]]:
    """Return what changes whenever the records do."""
    paths: list[Path] = [study.verdict, study.report, study.cases]
    for run in study.runs():
        paths += [run.events, run.record]
    found = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"
