"""`study.json`: the settings of a study, written before its first run."""

from typing import Any

from pydantic import Field

from pipeline.errors import RecordError
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.model import RecordModel, SparseRecord


class DatasetSummary(SparseRecord):
    """The dataset of a study; `classes` maps label values to names, the background among them."""

    path: str | None = None
    name: str = "–"
    layout: str | None = None
    cases: int | None = None
    channels: tuple[str, ...] = ()
    classes: dict[str, str] = Field(default_factory=dict)


class ArmRecord(SparseRecord):
    """One loss of a study.

    Attributes
    ----------
    name
        Name in the registry, or import path.
    label
        Display name, which is unique in the study and safe as a folder name.
    spec
        The loss as the user named it, with all arguments.
    formula
        The loss as text.
    control
        Whether the arm repeats another with random streams of its own.
    """

    name: str = ""
    label: str
    spec: str = ""
    formula: str = ""
    control: bool = False


class BudgetRecord(SparseRecord):
    """The budget of each run as requested, for example ``300s``, and the optimizer steps that followed from it."""

    asked: str | None = None
    steps: int | None = None


class PlanRecord(SparseRecord):
    """The part of a plan that reports and comparisons read; `pipeline.data.plan.Plan` is the whole.

    Attributes
    ----------
    spacing_mm
        Edges of a voxel of the prepared grid, in mm.
    patch
        Shape of a training patch in voxels.
    batch
        Patches of one optimizer step.
    channels
        Features of each level of the network.
    reasons
        Why each part of the plan was chosen.
    """

    spacing_mm: tuple[float, ...] | None = None
    patch: tuple[int, ...] | None = None
    batch: int | None = None
    channels: tuple[int, ...] | None = None
    reasons: dict[str, str] = Field(default_factory=dict)


class MachineRecord(SparseRecord):
    """Share of the machine that each run of a study uses, as measured before the first run."""

    device: str = "cpu"
    jobs: int = 1
    threads: int = 1
    precision: str | None = None
    precision_reason: str | None = None
    step_seconds: float | None = None


class CaseFiles(SparseRecord):
    """Absolute paths of the files of one case, and its patient."""

    images: tuple[str, ...] = ()
    label: str | None = None
    patient: str | None = None


class PlannedRun(RecordModel):
    """One run of the plan."""

    loss: str
    fold: int
    seed: int

    @property
    def key(self) -> RunKey:
        """The run as a key of folders."""
        return RunKey(self.loss, self.fold, self.seed)


class StudyRecord(SparseRecord):
    """The settings of a study; fields that an older version did not write are None or empty.

    Attributes
    ----------
    schema_version
        ``schema`` in the file.
    segloss
        Version that began the study.
    id
        Identity in MLflow, if it is not derived from the file.
    name, created, command
        Display name, time in ISO 8601, and command line.
    request
        Arguments that must stay the same for the study to be continued, by name.
    losses
        Arms in the order of the plan.
    preflight
        Warnings about the losses.
    folds, seeds
        Number of folds, and the seeds.
    learning_rates
        Candidates of the search, or the only rate.
    learning_rate_search
        Measure by which the search chooses.
    cases
        Files and patient of each case.
    runs
        All runs in the order in which they are carried out.
    dropped
        Losses that the race dropped, with the reason.
    """

    schema_version: int = Field(1, alias="schema")
    segloss: str | None = None
    id: str | None = None
    name: str = ""
    created: str | None = None
    request: dict[str, Any] = Field(default_factory=dict)
    command: str | None = None
    dataset: DatasetSummary = DatasetSummary()
    losses: tuple[ArmRecord, ...] = ()
    preflight: tuple[str, ...] = ()
    folds: int = 1
    seeds: tuple[int, ...] = (0,)
    budget: BudgetRecord = BudgetRecord()
    learning_rates: tuple[float, ...] = ()
    learning_rate_search: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    trainer: str | None = None
    precision: str | None = None
    machine: MachineRecord = MachineRecord()
    plan: PlanRecord = PlanRecord()
    versions: dict[str, str] = Field(default_factory=dict)
    cases: dict[str, CaseFiles] = Field(default_factory=dict)
    runs: tuple[PlannedRun, ...] = ()
    dropped: dict[str, str] = Field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Display names of all arms, controls among them."""
        return tuple(arm.label for arm in self.losses)

    @property
    def patients(self) -> dict[str, str]:
        """Patient of each case; a case without one is a patient of its own."""
        return {case: files.patient or case for case, files in self.cases.items()}


def read_study(study: StudyFolder) -> StudyRecord:
    """Return the settings of a study.

    Raises
    ------
    RecordError
        If the folder holds no study, or one that cannot be read.
    """
    try:
        content = study.settings.read_bytes()
    except OSError as error:
        raise RecordError(
            study.root, "is not a study folder (no readable study.json)", "give the --out folder of `segloss study`"
        ) from error
    return StudyRecord.parse(content, study.settings, "give the --out folder of `segloss study`")
