"""MLflow as a mirror of the records: it can be late, lost and rebuilt, and training never waits for it."""

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
"""What following a study may take of a core from the trainings; pauses are at most four times as long for it."""

STOP_WITHIN_S = 30.0


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
        return Session(study, tracking_uri(study, uri)).sync(live)


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
        result = Session(study, tracking_uri(study, uri)).look()
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
    """Mirror a study while it goes on; ends when it is complete, on SIGTERM or SIGINT, or with the parent process.

    With `until_stopped` it goes on when the study is complete: what is written before the signal is mirrored then.

    The files are looked at every `interval_s` seconds, or up to four times less often where reading them takes more
    than a fiftieth of a core, and MLflow is called where they changed. While it does not answer, the pauses double up
    to a minute. Call it in the main thread.
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
                return _follow(study, tracking_uri(study, uri), interval_s, on_sync, stop, parent, until_stopped)
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
    until_stopped: bool,
) -> MirrorResult:
    seen: object = None
    session = Session(study, uri)
    pause = interval_s
    while True:
        now = _state_of_files(study)
        if now != seen:
            before = time.process_time()
            result = session.sync(live=True)
            affordable = (time.process_time() - before) / SHARE_OF_A_CORE
            on_sync(result)
            seen = now if result.reached else None
            if not result.reached:
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = min(max(interval_s, affordable), 4 * interval_s)
                if not until_stopped and _is_complete(study):
                    return result
        if stop.wait(pause) or os.getppid() != parent:
            return session.sync(live=False)


class Mirror:
    """A process beside a study that mirrors it, so that a slow or dead server takes no time from the training.

    ::

        mirror = Mirror(study)
        mirror.start()
        ...                         # the study
        mirror.finish(print)        # one last replay, within a bounded time; a line where MLflow was not reached

    ``with Mirror(study) as mirror: ...`` starts it, and stops it where that was not done inside.
    """

    def __init__(self, study: StudyFolder, uri: str | None = None) -> None:
        self.study = study
        self.uri = tracking_uri(study, uri)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, at a low priority and in a session of its own: Ctrl-C reaches the study alone."""
        self._process = self._track("--follow", "--until-stopped")

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

    def finish(self, say: Callable[[str], None], within_s: float = STOP_WITHIN_S) -> MirrorResult:
        """Stop, with a last replay, started or not; say one line where MLflow was not reached."""
        result = self.stop(within_s)
        warning = result.warning(self.study)
        if warning is not None:
            say(warning)
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


def _is_complete(study: StudyFolder) -> bool:
    return study.verdict.exists() and all(run.record.exists() for run in run_folders(study))


def _state_of_files(study: StudyFolder) -> FileStates:
    """Return what changes whenever the records do."""
    paths: list[Path] = [study.verdict, study.report, study.cases]
    for run in run_folders(study):
        paths += [run.events, run.record]
    return file_states(paths)
