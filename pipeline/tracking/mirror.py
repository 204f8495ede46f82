"""MLflow as a mirror of the records: it may be late, lost and rebuilt, and no training waits for it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.study import run_folders
from pipeline.system.files import FileStates, file_states
from pipeline.system.folder_lock import exclusive
from pipeline.system.operating_system import parent_is_gone
from pipeline.tracking.session import MirrorResult, Session, artifact_location, default_uri, tracking_uri

__all__ = [
    "Mirror",
    "MirrorResult",
    "artifact_location",
    "default_uri",
    "follow_study",
    "mirror_for_reading",
    "mirror_study",
    "tracking_uri",
]

INTERVAL_S = 5.0
LONGEST_PAUSE_S = 60.0

SHARE_OF_A_CORE = 0.02
"""Processor time that following a study may take from the trainings, as a share of one core."""

LONGEST_STRETCH = 4
"""Pauses grow to at most this times the interval to respect that share."""

STOP_WITHIN_S = 30.0


def mirror_study(study: StudyFolder, uri: str | None = None, live: bool = False) -> MirrorResult:
    """Bring MLflow to the state of the records; if it is there already, log nothing.

    Parameters
    ----------
    study
        Only read, except for the database inside it.
    uri
        Address of MLflow; None for the default of `tracking_uri`.
    live
        True if runs without a record are being carried out; otherwise they show as KILLED until they continue.

    Returns
    -------
    MirrorResult
        Its `reached` is False if the server does not answer within seconds.

    Raises
    ------
    RecordError
        If the folder holds no study, or another process mirrors it.
    """
    with exclusive(study.root / ".mirror"):
        return Session(study, tracking_uri(study, uri)).synchronize(live)


def mirror_for_reading(study: StudyFolder, uri: str | None = None) -> MirrorResult:
    """Bring MLflow up to date and return its runs; only read them while another process mirrors the study.

    Raises
    ------
    RecordError
        If MLflow cannot be reached.
    """
    try:
        result = mirror_study(study, uri)
    except RecordError:
        result = Session(study, tracking_uri(study, uri)).read()
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
    until_stopped: bool = False,
) -> MirrorResult:
    """Mirror a study while it is carried out; return when it is complete, on SIGTERM or SIGINT, or with the parent.

    The files are checked every `interval_s` seconds, or up to four times less often if reading them takes more than a
    fiftieth of a core. MLflow is called when they have changed. While it does not answer, the pauses double up to a
    minute, so that a dead server costs little. Call this in the main thread, which alone may set signal handlers.

    Parameters
    ----------
    study
        The study; another process may be writing to it.
    uri
        Address of MLflow; None for the default of `tracking_uri`.
    interval_s
        Time between two checks of the files, in seconds.
    on_sync
        Called with the result of each synchronization.
    until_stopped
        Continue when the study is complete, until a signal: what is written before the signal is mirrored after it.

    Raises
    ------
    RecordError
        If the folder holds no study, or another process still mirrors it when a signal arrives.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    parent = os.getppid()

    def must_stop_within(seconds: float) -> bool:
        # An orphan gets another parent process: it must not outlive a study that was killed.
        return stop.wait(seconds) or parent_is_gone(parent)

    while True:
        try:
            with exclusive(study.root / ".mirror"):
                session = Session(study, tracking_uri(study, uri))
                return _follow(session, interval_s, on_sync, must_stop_within, until_stopped)
        except RecordError:
            if must_stop_within(interval_s):
                raise


def _follow(
    session: Session,
    interval_s: float,
    on_sync: Callable[[MirrorResult], None],
    must_stop_within: Callable[[float], bool],
    until_stopped: bool,
) -> MirrorResult:
    mirrored: FileStates | None = None
    pause = interval_s
    while True:
        states = _states_of_files(session.study)
        if states != mirrored:
            before = time.process_time()
            result = session.synchronize(live=True)
            affordable = (time.process_time() - before) / SHARE_OF_A_CORE
            on_sync(result)
            mirrored = states if result.reached else None
            if not result.reached:
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = min(max(interval_s, affordable), LONGEST_STRETCH * interval_s)
                if not until_stopped and _is_complete(session.study):
                    return result
        if must_stop_within(pause):
            return session.synchronize(live=False)


class Mirror:
    """A process beside a study that mirrors it, so that a slow or dead server takes no time from the training.

    ::

        mirror = Mirror(study)
        mirror.start()
        ...                         # the study
        mirror.finish(print)        # a last synchronization, within a bounded time; a line if MLflow was not reached

    ``with Mirror(study) as mirror: ...`` starts it, and stops it unless that was done inside.
    """

    def __init__(self, study: StudyFolder, uri: str | None = None) -> None:
        self.study = study
        self.uri = tracking_uri(study, uri)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process at a low priority, in a session of its own so that Ctrl-C reaches the study alone."""
        self._process = self._track("--follow", "--until-stopped")

    def stop(self, within_s: float = STOP_WITHIN_S) -> MirrorResult:
        """Let the process mirror the rest and end; kill it after `within_s` seconds, which the result then states."""
        until = time.monotonic() + within_s
        result = None
        if self._process is not None:
            self._process.terminate()
            result = self._result_of(self._process, until)
            self._process = None
        if result is None:
            result = self._result_of(self._track(), until)
        return result or MirrorResult(False, self.uri, problem=f"no answer within {within_s:g} s")

    def finish(self, message: Callable[[str], None], within_s: float = STOP_WITHIN_S) -> MirrorResult:
        """Stop after a last synchronization, whether or not it was started; report a line if MLflow was not reached."""
        result = self.stop(within_s)
        warning = result.warning(self.study)
        if warning is not None:
            message(warning)
        return result

    def __enter__(self) -> "Mirror":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

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
    def _result_of(process: "subprocess.Popen[str]", until: float) -> MirrorResult | None:
        """Return the result that the process prints; None if it prints none, e.g. when stopped before it began."""
        try:
            output, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
            return MirrorResult(**json.loads(output))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        except (ValueError, TypeError):
            pass
        return None


def _is_complete(study: StudyFolder) -> bool:
    return study.verdict.exists() and all(run.record.exists() for run in run_folders(study))


def _states_of_files(study: StudyFolder) -> FileStates:
    """Return sizes and times of all files that change with the records."""
    paths: list[Path] = [study.verdict, study.report, study.cases]
    for run in run_folders(study):
        paths += [run.events, run.record]
    return file_states(paths)
