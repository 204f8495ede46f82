"""A study that `segloss study` carried out, as trainings that are compared with those of other sources."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import RecordError
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.run import RunTrace, read_traces
from pipeline.records.study import StudyRecord, read_study
from pipeline.records.table import BUDGET_COLUMNS, COLUMNS, read_table
from pipeline.trainers.trainings import Gap, Source, Training

_REMEDY = "run its `segloss study` command again to the end, or give --skip-bad"


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study, and the name that each of its losses has in the comparison; other losses are not compared."""

    folder: StudyFolder
    settings: StudyRecord
    labels: Mapping[str, str]

    @classmethod
    def read(cls, folder: StudyFolder) -> "FoundStudy":
        """Return a study with all its losses under their own names.

        Raises
        ------
        RecordError
            If the folder holds no study, or one that cannot be read.
        """
        settings = read_study(folder)
        return cls(folder, settings, {label: label for label in settings.labels})

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.root.resolve().name


def read_own_study(study: FoundStudy, skip_bad: bool = False) -> Source:
    """Return the trainings of a study with the values, curves and hashes in its records.

    Parameters
    ----------
    study
        The study with the losses to compare.
    skip_bad
        Leave out runs that have not finished, instead of an error.

    Raises
    ------
    RecordError
        If a run has not finished, none has, or a record cannot be read.
    """
    settings, labels = study.settings, study.labels
    trainings: list[Training] = []
    gaps: list[Gap] = []
    for trace in read_traces(study.folder):
        loss = trace.key.loss
        if loss not in labels or loss in settings.dropped:
            continue
        try:
            trainings.append(_training(trace, labels[loss]))
        except RecordError as error:
            if not skip_bad:
                raise
            gaps.append(Gap.of_run(RunKey(labels[loss], trace.key.fold, trace.key.seed), error))
    if not trainings:
        raise RecordError(study.folder.root, "has no finished run", _REMEDY)
    return Source(
        name=study.name,
        trainer=settings.trainer or f"segloss {settings.segloss or ''}".strip(),
        dataset=settings.dataset,
        arms=tuple(
            arm.model_copy(update={"label": labels[arm.label]}) for arm in settings.losses if arm.label in labels
        ),
        trainings=tuple(trainings),
        gaps=tuple(gaps),
        plan=settings.plan,
        budget=settings.budget,
        shared=("trainer", "plan"),
        measured="cases.csv of the study",
        patients=settings.patients,
        dropped={labels[loss]: why for loss, why in settings.dropped.items() if loss in labels},
    )


def _training(trace: RunTrace, label: str) -> Training:
    if trace.record is None:
        raise RecordError(trace.folder.root, "has not finished", _REMEDY)
    table = read_table(trace.folder.cases).reindex(columns=list(COLUMNS)).assign(loss=label)
    budgets = None
    if trace.folder.budgets.exists():
        budgets = read_table(trace.folder.budgets).reindex(columns=list(BUDGET_COLUMNS)).assign(loss=label)
    return Training(trace.record.model_copy(update={"loss": label}), table, trace.events, budgets)
