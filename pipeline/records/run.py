"""`run.json`: the result of a run besides its table. Its presence means that the run is complete."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pipeline.records.events import Event, read_events
from pipeline.records.folder import RunFolder, RunKey, StudyFolder
from pipeline.records.model import SparseRecord
from pipeline.records.rate_search import RateSearch
from pipeline.records.study import run_folders

RunState = Literal["ok", "collapsed"]
Kind = TypeVar("Kind", bound=Event)


class RunRecord(SparseRecord):
    """The result of one run.

    Attributes
    ----------
    loss, fold, seed
        The run.
    control
        True if the arm repeats another with random streams of its own.
    steps
        Optimizer steps of the training.
    seconds, training_seconds
        Time of the whole run, and of its training alone.
    precision, threads, device, machine
        How the run was computed.
    initial_weights_hash, feed_hash
        Equal for all losses of one fold and seed, which proves that only the loss differed.
    weights_hash
        Hash of the trained weights.
    learning_rate
        Learning rate of the training; None for a training that gave no network.
    cases
        Held-out cases, in the order of the table.
    state, why
        ``collapsed`` with the reason, if the training gave no usable network.
    notes
        Events that the progress and the report show, such as a restart in float32.
    mean_dice
        Mean Dice over classes and cases.
    """

    loss: str = ""
    fold: int = 0
    seed: int = 0
    control: bool = False
    steps: int | None = None
    seconds: float | None = None
    precision: str | None = None
    threads: int | None = None
    device: str | None = None
    machine: str | None = None
    initial_weights_hash: str | None = None
    learning_rate_search: dict[str, object] | None = None
    cases: tuple[str, ...] = ()
    state: RunState = "ok"
    why: str | None = None
    notes: tuple[str, ...] = ()
    learning_rate: float | None = None
    training_seconds: float | None = None
    feed_hash: str | None = None
    weights_hash: str | None = None
    mean_dice: float | None = None

    @property
    def rate_search(self) -> RateSearch | None:
        """The search over learning rates; None for runs of versions that did not record its rule."""
        return RateSearch.from_json(self.learning_rate_search)


def read_run(folder: RunFolder) -> RunRecord | None:
    """Return the record of a run, None if the run has not finished.

    Raises
    ------
    RecordError
        If the file cannot be read.
    """
    if not folder.record.exists():
        return None
    return RunRecord.parse(
        folder.record.read_bytes(), folder.record, "remove it; `whichloss study` then repeats the run"
    )


@dataclass(frozen=True, slots=True)
class RunTrace:
    """All that one run has left so far: its record, None while it has not finished, and its events."""

    folder: RunFolder
    record: RunRecord | None
    events: Sequence[Event]

    @property
    def key(self) -> RunKey:
        """Loss, fold and seed."""
        return self.folder.key

    @property
    def state(self) -> str:
        """Return ``ok``, ``collapsed``, ``under way`` or ``not begun``."""
        if self.record is not None:
            return self.record.state
        return "under way" if self.events else "not begun"

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def read_traces(study: StudyFolder) -> tuple[RunTrace, ...]:
    """Return what every run of the plan has left, in the order of the plan.

    Raises
    ------
    RecordError
        If the folder holds no study, or a file cannot be read.
    """
    return tuple(RunTrace(run, read_run(run), read_events(run.events)) for run in run_folders(study))
