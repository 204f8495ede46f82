"""Creation of a study: its folds, its fingerprint and, last, its record."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from pipeline.data.dataset import Case, Dataset
from pipeline.records.study import CaseFiles, DatasetSummary, StudyRecord, write_study
from pipeline.study.arms import arm_records, study_name
from pipeline.study.context import StudyContext
from pipeline.study.progress import Progress
from pipeline.study.setups import Setup
from pipeline.study.unknown_labels import annotated_names, annotation_notes
from pipeline.system.files import write_json
from pipeline.system.json_values import to_json_value
from pipeline.version import __version__

PACKAGES = ("torch", "monai", "pytorch-ignite", "mlflow", "nibabel", "numpy", "scipy")
"""Packages whose versions the record names."""


def create_study(
    context: StudyContext, warnings: Sequence[str], setup: Setup, progress: Progress
) -> tuple[StudyContext, StudyRecord]:
    """Let the trainer decide on network and steps, and write folds, fingerprint and record.

    Parameters
    ----------
    context
        The study with the plan of its dataset.
    warnings
        Warnings about the losses, which the record repeats.
    setup
        The trainer, with prepared cases.
    progress
        Receives the stages and their results.

    Returns
    -------
    tuple
        The study with the plan that it is trained by, and its record.
    """
    context, decided = setup.begin(context, progress)
    record = _complete(decided, context, warnings)
    folds = [{"fold": fold.index, "cases": fold.cases, "patients": fold.patients} for fold in context.folds]
    write_json(context.folder.folds, to_json_value({"folds": folds}))
    write_json(context.folder.fingerprint, to_json_value([asdict(scan) for scan in context.fingerprint.scans]))
    # The record comes last: its presence means that the study exists.
    write_study(context.folder, record)
    return context, record


def _complete(decided: StudyRecord, context: StudyContext, warnings: Sequence[str]) -> StudyRecord:
    """Return the record of a new study: what its trainer decided, and everything else."""
    request = context.request
    fields = {
        "segloss": __version__,
        "name": study_name(context.dataset.name, context.arms),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": request.identity(),
        "command": request.command,
        "dataset": _summary(context),
        "losses": arm_records(context.arms),
        "preflight": tuple(warnings),
        "folds": len(context.folds),
        "seeds": request.all_seeds,
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in PACKAGES},
            **decided.versions,
        },
        "cases": _case_files(context.dataset),
        "runs": context.runs,
    }
    if notes := annotation_notes(context.dataset):
        fields["notes"] = (*decided.notes, *notes)
    return decided.model_copy(update=fields)


def _summary(context: StudyContext) -> DatasetSummary:
    dataset = context.dataset
    summary = DatasetSummary(
        path=str(context.request.dataset.resolve()),
        name=dataset.name,
        layout=dataset.layout,
        cases=len(dataset.cases),
        channels=dataset.channels,
        classes={str(value): dataset.classes[value] for value in sorted(dataset.classes)},
    )
    if dataset.ignore_label is None:
        return summary
    return summary.model_copy(update={"ignore_label": dataset.ignore_label})


def _case_files(dataset: Dataset) -> dict[str, CaseFiles]:
    return {case.id: _files_of(case, dataset) for case in dataset.cases}


def _files_of(case: Case, dataset: Dataset) -> CaseFiles:
    files = CaseFiles(
        images=tuple(str(path.resolve()) for path in case.images),
        label=str(case.label.resolve()) if case.label else None,
        patient=case.patient,
    )
    annotated = annotated_names(case, dataset)
    return files if annotated is None else files.model_copy(update={"annotated": annotated})
