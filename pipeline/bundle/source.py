"""What a bundle is made from: a finished study, read from its records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.specification import Fingerprint
from pipeline.data.dataset import Case, Dataset
from pipeline.data.plan import Plan
from pipeline.errors import BundleError
from pipeline.losses import LossSpec, parse_losses
from pipeline.records.folder import RunFolder, StudyFolder


@dataclass(frozen=True)
class StudySource:
    """A study as an export sees it; `runs` are the usable runs of the loss, in the order of the plan."""

    study: StudyFolder
    settings: Mapping[str, Any]
    scans: tuple[Mapping[str, Any], ...]
    verdict: Mapping[str, Any]
    loss: LossSpec
    plan: Plan
    dataset: Dataset
    runs: tuple[RunFolder, ...]
    records: tuple[Mapping[str, Any], ...]

    @property
    def several_files(self) -> bool:
        """Whether each channel is a file of its own."""
        return any(len(case.images) > 1 for case in self.dataset.cases)

    @property
    def class_voxels(self) -> tuple[int, ...]:
        """Voxels of each class over all cases, background first."""
        values = [str(value) for value in sorted(self.dataset.classes)]
        return tuple(
            sum(scan["classes"][value]["voxels"] for scan in self.scans if value in scan["classes"]) for value in values
        )

    @property
    def content_hashes(self) -> dict[str, str]:
        """Hash of each case's files, which names its prepared form."""
        return {scan["case"]: scan["content_hash"] for scan in self.scans}

    @property
    def fingerprint(self) -> Fingerprint:
        """Ranges over the training data, axes in R, A, S order."""
        spacing, shape = [], []
        for scan in self.scans:
            order = [_axis_of(scan["orientation"], world) for world in range(3)]
            spacing.append([scan["spacing_mm"][axis] for axis in order])
            shape.append([scan["shape"][axis] for axis in order])
        intensity = []
        for index in range(len(self.dataset.channels)):
            channels = [scan["channels"][index] for scan in self.scans]
            low = [_first(c["foreground_percentile_00_5"], c["minimum"]) for c in channels]
            high = [_first(c["foreground_percentile_99_5"], c["maximum"]) for c in channels]
            intensity.append((min(low), max(high)))
        return Fingerprint(
            cases=len(self.scans),
            spacing_mm=tuple(zip(np.min(spacing, 0).tolist(), np.max(spacing, 0).tolist(), strict=True)),
            shape=tuple(zip(np.min(shape, 0).tolist(), np.max(shape, 0).tolist(), strict=True)),
            intensity=tuple(intensity),
        )


def _first(value: float | None, other: float) -> float:
    return other if value is None else value


def _axis_of(orientation: str, world: int) -> int:
    """Return which axis of an image runs along R-L (0), A-P (1) or S-I (2)."""
    return next((axis for axis, letter in enumerate(orientation) if letter in ("RL", "AP", "SI")[world]), world)


def read_source(study: StudyFolder, loss: str) -> StudySource:
    """Return what is needed of a study for one loss, ``auto`` being the verdict's recommendation.

    Raises
    ------
    RecordError, BundleError
        Where the folder is no study, has no verdict yet, or the loss has no usable run.
    """
    settings = study.read_settings()
    if not study.verdict.exists():
        raise BundleError(study.root, "has no verdict yet", f"run `segloss report {study.root}`")
    verdict = json.loads(study.verdict.read_text(encoding="utf-8"))
    labels = [entry["label"] for entry in settings["losses"]]
    label = verdict.get("recommended") if loss == "auto" else loss
    if label is None:
        raise BundleError(study.root, "recommends no loss", f"name one with --loss: {', '.join(labels)}")
    entry = next((entry for entry in settings["losses"] if entry["label"] == label), None)
    if entry is None:
        raise BundleError(f"--loss {label}", "is not in the study", f"give one of {', '.join(labels)}, or auto")
    runs, records = [], []
    for run in study.runs():
        if run.key.loss == label and run.record.exists() and run.checkpoint.exists():
            record = json.loads(run.record.read_text(encoding="utf-8"))
            if record["state"] == "ok":
                runs.append(run)
                records.append(record)
    if not runs:
        raise BundleError(study.root, f"has no finished run of {label} that did not collapse", "finish the study first")
    parsed = parse_losses(entry["spec"])[0]
    spec = LossSpec(parsed.name, parsed.arguments, label)
    data = settings["dataset"]
    cases = tuple(
        Case(name, tuple(map(Path, case["images"])), Path(case["label"]) if case["label"] else None, case["patient"])
        for name, case in settings["cases"].items()
    )
    classes = {int(value): name for value, name in data["classes"].items()}
    dataset = Dataset(data["name"], Path(data["path"]), data["layout"], tuple(data["channels"]), classes, cases)
    scans = json.loads((study.root / "fingerprint.json").read_text(encoding="utf-8"))
    plan = Plan(**{name: _tuples(value) for name, value in settings["plan"].items()})
    return StudySource(study, settings, tuple(scans), verdict, spec, plan, dataset, tuple(runs), tuple(records))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
