"""Comparison and report of trainings that nnU-Net v2 has already carried out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.study import read_study
from pipeline.records.verdict import Verdict
from pipeline.report.build import build_report
from pipeline.trainers.nnunet.pairing import paired_results
from pipeline.trainers.nnunet.records import Results, read_results, write_study
from pipeline.trainers.nnunet.results import find_arms


@dataclass(frozen=True, slots=True)
class ResultsRequest:
    """Results of nnU-Net to compare.

    Attributes
    ----------
    folders
        Results folders of one dataset, or of single arms.
    arms
        Arms to use, by label, with new names if wanted: ``nnUNetPlans=plain,nnUNetResEncUNetMPlans``.
    unpaired
        Compare arms of different splits on their common cases.
    skip_bad
        Leave out folds that cannot be read.
    references
        Folder of the references. With it, all metrics are computed from the masks in ``fold_N/validation``.
    """

    folders: tuple[Path, ...]
    arms: str | None = None
    unpaired: bool = False
    skip_bad: bool = False
    references: Path | None = None


def compare_results(
    request: ResultsRequest,
    out: Path,
    comparison: ComparisonSettings | None = None,
    *,
    command: str = "",
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Verdict, Results]:
    """Read the results, write the records of a study with verdict and report, and return the verdict.

    Parameters
    ----------
    request
        Results to compare.
    out
        Folder of the study, which must not exist or hold results that were read before.
    comparison
        Metrics, classes, margins and confidence, if not the defaults.
    command
        Command line, for the record.
    on_fold
        Called after each fold with the number read and that of all.

    Raises
    ------
    RecordError
        If results cannot be read, arms have different splits, or `out` is a study of other trainings.
    ConfigError
        If the request names an arm that does not exist.
    """
    study = StudyFolder(out)
    _check_out(study)
    arms = find_arms(request.folders, request.arms)
    results = read_results(arms, request.skip_bad, request.references, on_fold)
    results = paired_results(results, request.unpaired)
    write_study(results, out, command)
    return build_report(study, comparison), results


def _check_out(study: StudyFolder) -> None:
    if study.settings.exists() and read_study(study).trainer is None:
        raise RecordError(study.root, "holds a study that segloss trained itself", "give another --out")
