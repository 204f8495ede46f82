"""Trainings that exist already, whatever trained them: the values that a comparison of results reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.events import Event
from pipeline.records.folder import RunKey
from pipeline.records.run import RunRecord
from pipeline.records.study import ArmRecord, BudgetRecord, DatasetSummary, PlanRecord

NNUNET = "nnunet"
"""Name of the source of nnU-Net's results."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training.

    Attributes
    ----------
    record
        Arm, fold, seed, held-out cases and time.
    table
        Its part of the long table (`pipeline.records.table`).
    events
        Its curves.
    budgets
        Its results at smaller budgets, with the column `steps`; None if there are none.
    """

    record: RunRecord
    table: pd.DataFrame
    events: Sequence[Event] = ()
    budgets: pd.DataFrame | None = None

    @property
    def key(self) -> RunKey:
        """The training as a run of a study."""
        return RunKey(self.record.loss, self.record.fold, self.record.seed)

    @property
    def seconds(self) -> float | None:
        """Time of the training, None if it was not recorded."""
        return self.record.training_seconds

    @property
    def cases(self) -> tuple[str, ...]:
        """Held-out cases."""
        return self.record.cases


@dataclass(frozen=True, slots=True)
class Gap:
    """A training that cannot be used, or all of an arm or folder (without a key), with the reason."""

    name: str
    error: RecordError
    key: RunKey | None = None

    @classmethod
    def of_run(cls, key: RunKey, error: RecordError) -> "Gap":
        """Return the gap of one training."""
        return cls(f"{key.loss}, fold {key.fold}", error, key)


@dataclass(frozen=True, slots=True)
class Source:
    """Trainings of one origin: results folders of nnU-Net, or a study.

    Attributes
    ----------
    name
        Name of the folder, for messages.
    trainer
        Name of the trainer, with its version if it is known.
    dataset, plan, budget
        What all trainings of the source share.
    arms
        Arms with at least one training.
    trainings, gaps
        Trainings that can be used, and those that cannot.
    shared
        What the arms share besides cases and splits, for example ``plans``.
    measured
        Where the scores come from.
    patients
        Patient of each case, where it is known.
    dropped
        Arms that a race dropped, with the reason.
    """

    name: str
    trainer: str
    dataset: DatasetSummary
    arms: tuple[ArmRecord, ...]
    trainings: tuple[Training, ...]
    gaps: tuple[Gap, ...] = ()
    plan: PlanRecord = field(default_factory=PlanRecord)
    budget: BudgetRecord = field(default_factory=BudgetRecord)
    shared: tuple[str, ...] = ()
    measured: str = ""
    patients: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """Trainings of all sources that are compared.

    Attributes
    ----------
    sources
        One for each trainer or study.
    notes
        Caveats that belong to the verdict.
    left_out
        Whole arms and folders that cannot be compared.
    merged
        True if all folds of an arm count as one training, since the splits of the arms differ.
    """

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[Gap, ...] = ()
    merged: bool = False

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Usable trainings of all sources, in their order."""
        return tuple(training for source in self.sources for training in source.trainings)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """All that cannot be used."""
        return (*self.left_out, *(gap for source in self.sources for gap in source.gaps))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the arms with at least one usable training, in the order found."""
        return tuple(dict.fromkeys(training.key.loss for training in self.trainings))

    @property
    def incomplete(self) -> frozenset[str]:
        """Names of the arms of which some training cannot be used."""
        return frozenset(gap.key.loss for gap in self.gaps if gap.key is not None)

    def of_arm(self, label: str) -> tuple[Training, ...]:
        """Return all trainings of one arm."""
        return tuple(training for training in self.trainings if training.key.loss == label)

    def folds_of(self, label: str) -> dict[str, int]:
        """Return the fold of each case in one arm."""
        return {case: training.key.fold for training in self.of_arm(label) for case in training.cases}

    def groups(self) -> Iterator[tuple[Training, ...]]:
        """Yield the trainings of each fold and seed that has several."""
        for place in dict.fromkeys((training.key.fold, training.key.seed) for training in self.trainings):
            own = tuple(training for training in self.trainings if (training.key.fold, training.key.seed) == place)
            if len(own) > 1:
                yield own

    def with_trainings(self, trainings: Sequence[Training]) -> "Results":
        """Return the results with other trainings of the same arms."""
        sources = []
        for source in self.sources:
            labels = {arm.label for arm in source.arms}
            own = tuple(training for training in trainings if training.key.loss in labels)
            sources.append(replace(source, trainings=own))
        return replace(self, sources=tuple(sources))
