"""`study.json`: the settings of a study, written before its first run."""

import json
from typing import Literal

from pydantic import Field

from pipeline.errors import RecordError
from pipeline.records.folder import STUDIES, RunFolder, RunKey, StudyFolder
from pipeline.records.model import RecordModel, SparseRecord
from pipeline.system.files import write_json

Precision = Literal["float32", "bfloat16"]
"""Number format of the forward passes, as in `pipeline.network.precision`."""


class DatasetSummary(SparseRecord):
    """The dataset of a study.

    `classes` maps label values to names, the background among them. `ignore_label` is the value of voxels that nobody
    annotated.
    """

    path: str | None = None
    name: str = "–"
    layout: str | None = None
    cases: int | None = None
    channels: tuple[str, ...] = ()
    classes: dict[str, str] = Field(default_factory=dict)
    ignore_label: int | None = None

    def values_of(self, names: tuple[str, ...] | None) -> tuple[int, ...] | None:
        """Return the label values of some classes in ascending order; None for None."""
        return None if names is None else tuple(sorted(int(v) for v, name in self.classes.items() if name in names))


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
        True if the arm repeats another with random streams of its own.
    """

    name: str = ""
    label: str
    spec: str = ""
    formula: str = ""
    control: bool = False


class BudgetRecord(SparseRecord):
    """The budget of each run.

    Attributes
    ----------
    asked
        The largest budget as requested, for example ``300s``.
    steps
        Optimizer steps that followed from it.
    evaluated
        Steps of all budgets at which each run is evaluated, in ascending order; the last one is `steps`. Empty if
        there is only one.
    """

    asked: str | None = None
    steps: int | None = None
    evaluated: tuple[int, ...] = ()

    @property
    def smaller(self) -> tuple[int, ...]:
        """Steps of all budgets but the largest, in ascending order."""
        return self.evaluated[:-1]


class RequestRecord(SparseRecord):
    """The arguments of `whichloss study` that must stay the same for the study to be continued.

    Attributes
    ----------
    dataset
        Absolute path.
    budget
        Training budget per run as requested.
    budgets
        Budgets at which each run is evaluated, as requested; None for one budget.
    learning_rates
        Candidates as requested; None for the default ones.
    tta
        True if held-out cases are predicted with test-time augmentation.
    tolerance_mm
        Tolerances of surface Dice in mm as requested; None if they follow from the resolution.
    trainer
        Trainer other than our own engine.
    configuration, plans
        Configuration and plans of nnU-Net; None for the defaults.
    recipe
        Recipe other than the default one.
    ignore_label
        Label value of ignored voxels as requested; None for that of the dataset.
    absent_means
        ``unknown`` if classes without a voxel in a case were not annotated there.
    """

    dataset: str | None = None
    folds: int | None = None
    first_seed: int | None = None
    budget: str | None = None
    budgets: str | None = None
    learning_rates: tuple[float, ...] | None = None
    skip_bad: bool = False
    tta: bool = False
    tolerance_mm: str | None = None
    trainer: str | None = None
    configuration: str | None = None
    plans: str | None = None
    recipe: str | None = None
    ignore_label: int | None = None
    absent_means: str | None = None


class RecipeRecord(SparseRecord):
    """The recipe of a study with a network of its own, or with parts that the user replaced.

    Attributes
    ----------
    name
        Display name.
    network
        Class and arguments of the network; None for that of the plan.
    weights, weights_sha256
        Absolute path and SHA-256 of the file of pretrained weights.
    optimizer, schedule
        As `whichloss study` reads them.
    sha256
        Hash of the definition of every part.
    """

    name: str = ""
    network: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    sha256: str | None = None

    @property
    def network_and_weights(self) -> str | None:
        """The network for display, with the start of the hash of its weights; None for that of the plan."""
        if self.network is None:
            return None
        weights = f" with weights {self.weights_sha256[:12]}…" if self.weights_sha256 else ""
        return f"{self.network}{weights}"


class PlanRecord(SparseRecord):
    """The plan of a study, as `pipeline.data.plan.Plan` defines it; all axes in R, A, S order.

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
    normalisation: tuple[str, ...] = ()
    intensity_range: tuple[tuple[float, float], ...] = ()
    intensity_mean: tuple[float, ...] = ()
    intensity_std: tuple[float, ...] = ()
    channels: tuple[int, ...] | None = None
    strides: tuple[tuple[int, ...], ...] = ()
    tolerance_mm: float | None = None
    metrics: tuple[str, ...] = ()
    reasons: dict[str, str] = Field(default_factory=dict)
    stem: tuple[int, ...] | None = None
    window: tuple[int, ...] | None = None
    tta: bool = False
    class_tolerance_mm: dict[str, float] = Field(default_factory=dict)


class MachineRecord(SparseRecord):
    """Share of the machine that each run of a study uses, as measured before the first run."""

    device: str = "cpu"
    jobs: int = 1
    threads: int = 1
    precision: Precision | None = None
    precision_reason: str | None = None
    step_seconds: float | None = None


class CaseFiles(SparseRecord):
    """Absolute paths of the files of one case, its patient, and the classes it was annotated for (None for all)."""

    images: tuple[str, ...] = ()
    label: str | None = None
    patient: str | None = None
    annotated: tuple[str, ...] | None = None


class PlannedRun(RecordModel):
    """One run of the plan."""

    loss: str
    fold: int
    seed: int

    @property
    def key(self) -> RunKey:
        """The run as a key of folders."""
        return RunKey(self.loss, self.fold, self.seed)


class ComparisonOptions(SparseRecord):
    """Options with which a study is compared, as `pipeline.comparison.settings.ComparisonSettings` defines them."""

    metrics: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    margins: dict[str, float] = Field(default_factory=dict)
    confidence: float = 0.95
    seed: int = 0
    resamples: int | None = None
    training_sd: float | None = None
    miss_value: float | None = None


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
        The arguments that must stay the same for the study to be continued.
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
    recipe
        The recipe if it differs from the named ones of our own engine, or has a network of its own.
    trainer
        Name of a trainer other than our own engine.
    cases
        Files and patient of each case.
    runs
        All runs in the order in which they are carried out.
    dropped
        Losses that the race dropped, with the reason.
    notes
        Caveats that belong to every verdict on the study, such as trainings that are not paired.
    comparison
        Options of the comparison for which the records were written; None for the defaults.
    """

    schema_version: int = Field(1, alias="schema")
    segloss: str | None = None
    id: str | None = None
    name: str = ""
    created: str | None = None
    request: RequestRecord = RequestRecord()
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
    recipe: RecipeRecord | None = None
    trainer: str | None = None
    precision: Precision | None = None
    machine: MachineRecord = MachineRecord()
    plan: PlanRecord = PlanRecord()
    versions: dict[str, str] = Field(default_factory=dict)
    cases: dict[str, CaseFiles] = Field(default_factory=dict)
    runs: tuple[PlannedRun, ...] = ()
    dropped: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    comparison: ComparisonOptions | None = None

    @property
    def is_imported(self) -> bool:
        """True if the trainings were carried out elsewhere, so that their arms need not be losses that we know."""
        return self.trainer is not None and self.request.dataset is None

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
        inside = sorted(str(path.parent) for path in study.root.glob(f"{STUDIES}/*/study.json"))
        if inside:
            remedy = f"give one of them: {', '.join(inside)}"
            raise RecordError(study.root, f"holds {len(inside)} studies, one for each recipe", remedy) from error
        raise RecordError(
            study.root, "is not a study folder (no readable study.json)", "give the --out folder of `whichloss study`"
        ) from error
    return StudyRecord.parse(content, study.settings, "give the --out folder of `whichloss study`")


def write_study(study: StudyFolder, record: StudyRecord) -> None:
    """Write the settings of a study, whole or not at all."""
    write_json(study.settings, record.to_json())


def run_folders(study: StudyFolder) -> tuple[RunFolder, ...]:
    """Return the folders of all planned runs, finished or not, in the order of the plan.

    Raises
    ------
    RecordError
        If the folder holds no study, or one that cannot be read.
    """
    return tuple(study.run(planned.key) for planned in read_study(study).runs)


def stored_content_hashes(study: StudyFolder) -> dict[str, str | None]:
    """Return the SHA-256 of the files of each case when the study began; empty without a fingerprint.

    Raises
    ------
    RecordError
        If the fingerprint cannot be read.
    """
    if not study.fingerprint.exists():
        return {}
    try:
        scans = json.loads(study.fingerprint.read_text(encoding="utf-8"))
        return {scan["case"]: scan.get("content_hash") for scan in scans}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(
            study.fingerprint, f"cannot be used ({error})", "restore the file, or use another --out"
        ) from error
