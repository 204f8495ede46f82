"""Comparison and report of trainings that exist already: results of nnU-Net v2, and studies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.study import read_study
from pipeline.records.verdict import Verdict
from pipeline.report.build import build_report
from pipeline.trainers.combined_study import write_study
from pipeline.trainers.found import find_trainings
from pipeline.trainers.nnunet.mask_scores import MaskOptions
from pipeline.trainers.nnunet.records import read_results
from pipeline.trainers.own_study import read_own_study
from pipeline.trainers.pairing import PairingRules, paired_results
from pipeline.trainers.trainings import NNUNET, Gap, Results, Source

SCORES = "mask_scores.json"
"""Scores of nnU-Net's masks inside the folder of the study, which a second call reads if the masks are unchanged."""


@dataclass(frozen=True, slots=True)
class ResultsRequest:
    """Trainings to compare.

    Attributes
    ----------
    folders
        Results folders of nnU-Net for one dataset, or of single arms, and folders of studies.
    arms
        Arms to use, by label, with new names if wanted: ``nnUNetPlans=plain,nnUNetResEncUNetMPlans``.
    unpaired
        Compare arms of different splits on their common cases.
    skip_bad
        Leave out what cannot be read, has not finished or cannot be compared with the other arms.
    references
        Folder of the references. With it, all metrics are computed from the masks in ``fold_N/validation``.
    """

    folders: tuple[Path, ...]
    arms: str | None = None
    unpaired: bool = False
    skip_bad: bool = False
    references: Path | None = None


@dataclass(frozen=True, slots=True)
class ResultsProgress:
    """Functions that are called with the number done and that of all: after each fold read, each case measured."""

    on_fold: Callable[[int, int], None] = lambda done, total: None
    on_case: Callable[[int, int], None] = lambda done, total: None


def compare_results(
    request: ResultsRequest,
    out: Path,
    comparison: ComparisonSettings | None = None,
    *,
    command: str = "",
    progress: ResultsProgress | None = None,
) -> tuple[Verdict, Results]:
    """Read the results, write the records of a study with verdict and report, and return the verdict.

    Parameters
    ----------
    request
        Trainings to compare.
    out
        Folder of the study, which must not exist or hold results that were read before.
    comparison
        Metrics, classes, margins and confidence, if not the defaults. The study records them, so that a later report
        has the same verdict.
    command
        Command line, for the record.
    progress
        Functions to call while folds are read and masks are measured.

    Returns
    -------
    verdict, results
        The verdict, and all trainings as found.

    Raises
    ------
    RecordError
        If results cannot be read, arms have different splits, or `out` is a study of other trainings.
    ConfigError
        If the request names an arm that does not exist.
    """
    _check_out(StudyFolder(out))
    results = read_trainings(request, out / SCORES, progress)
    classes = comparison.classes if comparison is not None else None
    paired = paired_results(results, PairingRules(request.unpaired, request.skip_bad, classes))
    study = write_study(paired, out, command, comparison.options if comparison is not None else None)
    return build_report(study), replace(results, left_out=paired.left_out)


def read_trainings(
    request: ResultsRequest, store: Path | None = None, progress: ResultsProgress | None = None
) -> Results:
    """Return all trainings that a request names.

    Parameters
    ----------
    request
        Trainings to read.
    store
        File of scores of masks.
    progress
        Functions to call while folds are read and masks are measured.

    Raises
    ------
    RecordError
        If results cannot be read.
    ConfigError
        If the request names an arm that does not exist, or references that no source uses.
    """
    found = find_trainings(request.folders, request.arms, request.skip_bad)
    if request.references is not None and not found.arms:
        raise ConfigError(f"--references {request.references}", "is used with results of nnU-Net only", "leave it out")
    progress = progress or ResultsProgress()
    readers: list[tuple[str, Callable[[], Source]]] = []
    if found.arms:
        masks = MaskOptions(request.references, store, on_case=progress.on_case)
        readers.append((NNUNET, partial(read_results, found.arms, request.skip_bad, masks, progress.on_fold)))
    readers += [(study.name, partial(read_own_study, study, request.skip_bad)) for study in found.studies]
    return _read_all(readers, found.left_out, request.skip_bad)


def _read_all(readers: Sequence[tuple[str, Callable[[], Source]]], left_out: Sequence[Gap], skip_bad: bool) -> Results:
    """Return all sources; one without any usable training is left out if another has some."""
    sources: list[Source] = []
    unusable: list[Gap] = []
    for name, read in readers:
        try:
            sources.append(read())
        except RecordError as error:
            if not skip_bad:
                raise
            unusable.append(Gap(name, error))
    if not sources:
        raise unusable[0].error
    return Results(tuple(sources), left_out=(*left_out, *unusable))


def _check_out(study: StudyFolder) -> None:
    if study.settings.exists() and not read_study(study).is_imported:
        raise RecordError(study.root, "holds a study with trainings of its own", "give another --out")
