"""A folder watched for new studies, each taken once nothing of it has changed for a while."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import DatasetError
from pipeline.inference.journal import CaseRecord
from pipeline.inference.sources import Job
from pipeline.system.files import FileStates, file_states


@dataclass
class Watch:
    """What has been taken from a folder so far.

    Parameters
    ----------
    find
        Returns the cases that lie in the folder now.
    quiet_s
        How long no file of a study may have changed before it counts as complete.
    clock
        Seconds since the epoch, as the file system stamps files.
    """

    find: Callable[[], list[Job]]
    quiet_s: float
    clock: Callable[[], float] = time.time
    _taken: dict[str, FileStates] = field(default_factory=dict)
    _seen_at: dict[FileStates, float] = field(default_factory=dict)

    def ready(self) -> list[Job]:
        """Return the cases that are complete and were not taken as they are now; they count as taken then."""
        try:
            jobs = self.find()
        except DatasetError:
            jobs = []
        ready = []
        seen: dict[FileStates, float] = {}
        for job in jobs:
            signature = file_states(job.images)
            seen[signature] = self._seen_at.get(signature, self.clock())
            if self._taken.get(job.id) != signature and self._is_quiet(signature, seen[signature]):
                self._taken[job.id] = signature
                ready.append(job)
        self._seen_at = seen
        return ready

    def _is_quiet(self, signature: FileStates, since: float) -> bool:
        """Judge by the time stamps, and by when this state was first seen, as copying tools keep old time stamps."""
        newest = max((modified for _, _, modified in signature), default=0) / 1e9
        now = self.clock()
        return now - since >= self.quiet_s and not 0 <= now - newest < self.quiet_s


def watch(
    watched: Watch,
    predict: Callable[[Sequence[Job]], list[CaseRecord]],
    stop: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> list[CaseRecord]:
    """Predict what arrives until `stop` says so; return all records, the last of each case."""
    records: dict[str, CaseRecord] = {}
    while not stop():
        ready = watched.ready()
        if ready:
            records |= {record.case: record for record in predict(ready)}
        else:
            sleep(max(0.2, min(watched.quiet_s / 4, 10.0)))
    return list(records.values())
