"""One process's dealings with one MLflow server for one study: where it is, and what came of calling it."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.records.folder import StudyFolder
from pipeline.tracking.expected_runs import StudyRecords

if TYPE_CHECKING:
    from pipeline.tracking.synchronization import Replay

_CLIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""A dead server costs seconds, not minutes, and nothing but our answer goes to stdout."""


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


class Session:
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
            return MirrorResult(
                False, self.uri, study_id=records.id, seconds=seconds, problem=_problem(error, self.uri)
            )
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
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        from pipeline.tracking.synchronization import Replay

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
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


def _problem(error: BaseException, uri: str) -> str:
    """Return in a few words why MLflow was not reached."""
    text = " ".join(str(error).split())
    if "Max retries exceeded" in text or "Connection" in type(error).__name__:
        return f"no answer from {uri}"
    return text if len(text) <= 200 else text[:199] + "…"
