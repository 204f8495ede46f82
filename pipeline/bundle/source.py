"""The source of a bundle: a finished study, read from its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import TypeAdapter

from pipeline.bundle.specification import TrainingRanges
from pipeline.data.dataset import Case, Dataset, Layout
from pipeline.data.fingerprint import CaseScan, Fingerprint
from pipeline.data.plan import Plan
from pipeline.errors import BundleError
from pipeline.losses import LossSpec, parse_losses
from pipeline.network.architecture import PLAN_NETWORK
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.precision import Precision
from pipeline.records.folder import RunFolder, StudyFolder
from pipeline.records.run import read_run
from pipeline.records.study import StudyRecord, read_study, run_folders
from pipeline.records.verdict import LossResult, Verdict, read_verdict
from pipeline.references.volumes import annotation_of
from pipeline.training.recipe import Recipe
from pipeline.training.recipe_parts import recorded_recipe

_PLAN = TypeAdapter(Plan)
_SCANS = TypeAdapter(tuple[CaseScan, ...])


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A finished run that did not collapse; `learning_rate` is the one that it chose."""

    folder: RunFolder
    learning_rate: float
    training_s: float


@dataclass(frozen=True)
class StudySource:
    """A study as an export uses it.

    Attributes
    ----------
    study
        Folder of the study.
    loss
        The exported loss.
    formulas
        Formula of each loss of the study by its label, "" where it has none.
    runs
        Usable runs of the exported loss, in the order of the study.
    folds, seeds, steps, precision, threads
        Settings of each run; `threads` is the number of threads of PyTorch.
    fingerprint
        Scans of the training cases.
    verdict
        Verdict of the study.
    recipe
        Network, optimizer and schedule of its runs.
    weights_sha256
        Hash of the file of pretrained weights with which they began.
    """

    study: StudyFolder
    loss: LossSpec
    formulas: Mapping[str, str]
    runs: tuple[StudyRun, ...]
    folds: int
    seeds: tuple[int, ...]
    steps: int
    precision: Precision
    threads: int
    plan: Plan
    dataset: Dataset
    fingerprint: Fingerprint
    verdict: Verdict
    recipe: Recipe = field(default_factory=Recipe)
    weights_sha256: str | None = None

    @property
    def network(self) -> NetworkSpec:
        """The network that its runs trained."""
        return self.recipe.network or PLAN_NETWORK

    @property
    def several_files(self) -> bool:
        """True if each channel is a file of its own."""
        return any(len(case.images) > 1 for case in self.dataset.cases)

    @property
    def class_voxels(self) -> tuple[int, ...]:
        """Voxels of each class over all cases, background first."""
        voxels = self.fingerprint.class_voxels()
        return tuple(voxels.get(value, 0) for value in sorted(self.dataset.classes))

    @property
    def content_hashes(self) -> dict[str, str]:
        """Hash of each case's files, which names its prepared form."""
        return {scan.case: scan.content_hash for scan in self.fingerprint.scans}

    @property
    def training_ranges(self) -> TrainingRanges:
        """Ranges over the training cases."""
        return training_ranges(self.fingerprint)

    @property
    def result(self) -> LossResult:
        """Out-of-fold results of the exported loss; without metrics if the verdict has none."""
        return self.verdict.result_of(self.loss.label) or LossResult(name=self.loss.label)


def training_ranges(fingerprint: Fingerprint) -> TrainingRanges:
    """Return the lowest and highest values of a fingerprint's cases.

    The range of intensities is that inside the structures (0.5 and 99.5 percentile), and that of the whole image in a
    case without structures.
    """
    shapes, spacings = zip(*(scan.in_ras() for scan in fingerprint.scans), strict=True)
    intensity = []
    for channels in zip(*(scan.channels for scan in fingerprint.scans), strict=True):
        low = min(_default(c.foreground_percentile_00_5, c.minimum) for c in channels)
        high = max(_default(c.foreground_percentile_99_5, c.maximum) for c in channels)
        intensity.append((low, high))
    return TrainingRanges(
        cases=len(fingerprint.scans),
        spacing_mm=tuple(zip(np.min(spacings, 0).tolist(), np.max(spacings, 0).tolist(), strict=True)),
        shape=tuple(zip(np.min(shapes, 0).tolist(), np.max(shapes, 0).tolist(), strict=True)),
        intensity=tuple(intensity),
    )


def _default(value: float | None, default: float) -> float:
    return default if value is None else value


def read_source(study: StudyFolder, loss: str) -> StudySource:
    """Return the parts of a study that an export of one loss needs; ``auto`` is the loss that its verdict recommends.

    Raises
    ------
    RecordError
        If the folder is not a study.
    BundleError
        If the study has no verdict yet, or the loss has no usable run.
    """
    record = read_study(study)
    if not study.verdict.exists():
        raise BundleError(study.root, "has no verdict yet", f"run `whichloss report {study.root}`")
    verdict = read_verdict(study)
    label = verdict.recommended if loss == "auto" else loss
    if label is None:
        raise BundleError(study.root, "recommends no loss", f"name one with --loss: {', '.join(record.labels)}")
    arm = next((arm for arm in record.losses if arm.label == label), None)
    if arm is None:
        raise BundleError(f"--loss {label}", "is not in the study", f"give one of {', '.join(record.labels)}, or auto")
    if record.trainer is not None:
        raise _not_exportable(study, record, label)
    parsed = parse_losses(arm.spec)[0]
    steps = record.budget.steps
    assert steps is not None, "a study with runs has its budget in steps"
    return StudySource(
        study=study,
        loss=LossSpec(parsed.name, parsed.arguments, label),
        formulas={arm.label: arm.formula for arm in record.losses},
        runs=_usable_runs(study, label),
        folds=record.folds,
        seeds=record.seeds,
        steps=steps,
        precision=cast(Precision, record.precision),
        threads=record.machine.threads,
        plan=_PLAN.validate_python(record.plan.to_json()),
        dataset=_dataset(record),
        fingerprint=Fingerprint(_SCANS.validate_json((study.root / "fingerprint.json").read_bytes())),
        verdict=verdict,
        recipe=_recipe(record),
        weights_sha256=None if record.recipe is None else record.recipe.weights_sha256,
    )


def _recipe(record: StudyRecord) -> Recipe:
    """Return the recipe with the schedule of the study's runs, which depends on their budgets."""
    recipe = recorded_recipe(record)
    return replace(recipe, schedule=recipe.schedule.for_budgets(record.budget.smaller))


def _not_exportable(study: StudyFolder, record: StudyRecord, label: str) -> BundleError:
    """Return the refusal of a study whose networks another trainer holds, with that trainer's own export."""
    remedy = "use the export of that trainer"
    if record.request.trainer == "nnunet":
        from pipeline.trainers.nnunet.export import export_command

        remedy = f"run {export_command(study, record, label)}"
    return BundleError(
        study.root, f"was trained by {record.trainer}, whose networks cannot be exported as a bundle", remedy
    )


def _usable_runs(study: StudyFolder, label: str) -> tuple[StudyRun, ...]:
    runs = []
    for run in run_folders(study):
        record = read_run(run) if run.key.loss == label and run.checkpoint.exists() else None
        if record is not None and record.state == "ok" and record.learning_rate is not None:
            runs.append(StudyRun(run, record.learning_rate, record.training_seconds or 0.0))
    if not runs:
        raise BundleError(study.root, f"has no finished run of {label} that did not collapse", "finish the study first")
    return tuple(runs)


def _dataset(record: StudyRecord) -> Dataset:
    summary = record.dataset
    cases = tuple(
        Case(
            name,
            tuple(map(Path, files.images)),
            Path(files.label) if files.label else None,
            files.patient or name,
            annotation=annotation_of(files, summary),
        )
        for name, files in record.cases.items()
    )
    classes = {int(value): name for value, name in summary.classes.items()}
    layout = cast(Layout, summary.layout)
    return Dataset(
        summary.name, Path(summary.path or ""), layout, summary.channels, classes, cases, summary.ignore_label
    )
