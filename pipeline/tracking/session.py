"""Synchronizations of one study with one MLflow server by one process: where the server is, and their results."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.records.folder import StudyFolder
from pipeline.tracking.expected_runs import expected_runs
from pipeline.tracking.run_names import study_name
from pipeline.tracking.study_records import StudyRecords

if TYPE_CHECKING:
    from pipeline.tracking.synchronization import Synchronizer

_CLIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""A dead server costs seconds, not minutes, and MLflow prints nothing on stdout."""

_LONGEST_PROBLEM = 200


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """The result of one synchronization.

    Attributes
    ----------
    reached
        True if the server answered.
    uri
        Address of the server or database.
    experiment_id, study_id
        Ids in MLflow.
    runs
        MLflow id of each run by its key.
    created_runs, logged_points
        Runs and points that this synchronization added.
    seconds
        Duration in seconds.
    problem
        Why the server was not reached.
    """

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
        """Return a line for the user if MLflow was not reached, else None."""
        if self.reached:
            return None
        return (
            f"MLflow not reached ({self.problem}); the records are complete, "
            f"`whichloss track {study.root}` mirrors them later"
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def default_uri(study: StudyFolder) -> str:
    """Return the address of the database inside the study."""
    return f"sqlite:///{study.root.resolve() / 'mlflow.db'}"


def artifact_location(study: StudyFolder) -> str:
    """Return the folder of the artifacts beside that database, as a URI."""
    return (study.root.resolve() / "mlartifacts").as_uri()


def tracking_uri(study: StudyFolder, uri: str | None = None) -> str:
    """Return the given address, else ``MLFLOW_TRACKING_URI``, else the database inside the study."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(study)


class Session:
    """Synchronizations of one study by one process; the content of the server is cached between them."""

    def __init__(self, study: StudyFolder, uri: str) -> None:
        self.study = study
        self.uri = uri
        self._synchronizer: Synchronizer | None = None

    def synchronize(self, live: bool) -> MirrorResult:
        """Log everything that is missing; `live` tells whether the study is being carried out."""

        def synchronize_all(synchronizer: "Synchronizer", records: StudyRecords) -> None:
            for expected in expected_runs(records):
                synchronizer.synchronize(expected, live)

        return self._attempt(synchronize_all)

    def read(self) -> MirrorResult:
        """Read the runs of the study and log nothing."""
        return self._attempt(lambda synchronizer, records: None)

    def _attempt(self, action: "Callable[[Synchronizer, StudyRecords], None]") -> MirrorResult:
        started = time.monotonic()
        records = StudyRecords.read(self.study)
        try:
            if self._synchronizer is None:
                self._synchronizer = self._open(records)
            synchronizer = self._synchronizer
            before = synchronizer.created_runs, synchronizer.logged_points
            action(synchronizer, records)
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from requests.exceptions import RequestException
            from sqlalchemy.exc import SQLAlchemyError

            self._synchronizer = None  # Its cache may differ from the server: a call can succeed without its answer.
            if not isinstance(error, MlflowException | RequestException | SQLAlchemyError | OSError):
                raise
            seconds = time.monotonic() - started
            return MirrorResult(
                False, self.uri, study_id=records.id, seconds=seconds, problem=_problem(error, self.uri)
            )
        return MirrorResult(
            True,
            self.uri,
            synchronizer.experiment_id,
            records.id,
            synchronizer.run_ids(),
            synchronizer.created_runs - before[0],
            synchronizer.logged_points - before[1],
            time.monotonic() - started,
        )

    def _open(self, records: StudyRecords) -> "Synchronizer":
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        # MLflow reads these variables, and takes seconds, when it is imported.
        from pipeline.tracking.synchronization import Synchronizer

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        inside = self.uri == default_uri(self.study)
        if inside:
            _set_aside_database_of_moved_study(self.study)
        synchronizer = Synchronizer(self.uri, records.id)
        synchronizer.open(study_name(records.settings), artifact_location(self.study) if inside else None)
        return synchronizer


def _set_aside_database_of_moved_study(study: StudyFolder) -> None:
    """Rename the database of a study that was moved or copied: the paths of its artifacts are absolute, and wrong."""
    database = study.root / "mlflow.db"
    if not database.exists():
        return
    query = (
        "SELECT artifact_location FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key IN ('whichloss.study_id', 'segloss.study_id')"
    )
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            locations = [row[0] for row in connection.execute(query)]
    except sqlite3.Error:
        return
    if locations and artifact_location(study) not in locations:
        database.replace(database.with_suffix(".db.moved"))


def _problem(error: BaseException, uri: str) -> str:
    """Return in a few words why MLflow was not reached."""
    text = " ".join(str(error).split())
    if "Max retries exceeded" in text or "Connection" in type(error).__name__:
        return f"no answer from {uri}"
    return text if len(text) <= _LONGEST_PROBLEM else text[: _LONGEST_PROBLEM - 1] + "…"
