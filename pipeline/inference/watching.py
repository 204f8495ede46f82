"""A folder watched for new cases, each of which is predicted once its files have stopped changing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import DatasetError
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.sources import Job
from pipeline.system.files import FileStates, file_states


@dataclass
class Watch:
    """The cases of a folder that have been returned so far, and when each state of files was first seen.

    Parameters
    ----------
    find
        Returns the cases that the folder holds now.
    quiet_s
        Seconds without a change of any file after which a case is complete.
    clock
        Returns the seconds since the epoch, as the file system stamps files.
    """

    find: Callable[[], list[Job]]
    quiet_s: float
    clock: Callable[[], float] = time.time
    _returned: dict[str, FileStates] = field(default_factory=dict)
    _first_seen: dict[FileStates, float] = field(default_factory=dict)

    def ready(self) -> list[Job]:
        """Return the cases that are complete and were not returned before in their present state."""
        try:
            jobs = self.find()
        except DatasetError:  # e.g. the folder is still empty
            jobs = []
        ready = []
        first_seen: dict[FileStates, float] = {}
        for job in jobs:
            state = file_states(job.images)
            first_seen[state] = self._first_seen.get(state, self.clock())
            if self._returned.get(job.id) != state and self._is_quiet(state, first_seen[state]):
                self._returned[job.id] = state
                ready.append(job)
        self._first_seen = first_seen
        return ready

    def _is_quiet(self, state: FileStates, since: float) -> bool:
        """Return whether files have been unchanged for `quiet_s`.

        Time stamps alone do not tell, since tools that copy may preserve old ones: the state must also have been seen
        for so long. Time stamps in the future, from a file server whose clock is ahead, are ignored.
        """
        newest = max((modified for _, _, modified in state), default=0) / 1e9
        now = self.clock()
        return now - since >= self.quiet_s and not 0 <= now - newest < self.quiet_s


def watch(
    watched: Watch,
    predict: Callable[[Sequence[Job]], list[CaseRecord]],
    should_stop: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> list[CaseRecord]:
    """Predict cases as they become complete, until `should_stop` returns True; return the last record of each case."""
    records: dict[str, CaseRecord] = {}
    while not should_stop():
        ready = watched.ready()
        if ready:
            records |= {record.case: record for record in predict(ready)}
        else:
            sleep(max(0.2, min(watched.quiet_s / 4, 10.0)))
    return list(records.values())
