"""What a study does about labels that are unknown: the question of absent classes, refusals, and words."""

from collections.abc import Sequence

from pipeline.data.absences import question, questionable_absences, with_absent_classes_unknown
from pipeline.data.annotation import has_ignored, is_partial, missing_names
from pipeline.data.dataset import Case, Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.errors import ConfigError
from pipeline.losses import LossSpec
from pipeline.study.request import ENGINE, NNUNET, StudyRequest


def with_answered_absences(request: StudyRequest, dataset: Dataset, fingerprint: Fingerprint) -> Dataset:
    """Return the dataset after the user's answer to whether classes without a voxel were drawn.

    Raises
    ------
    ConfigError
        A class is missing from many cases and there is no answer, or the dataset has its own.
    """
    answer = request.absent_means
    if answer is None:
        absences = questionable_absences(dataset, fingerprint.scans)
        if absences:
            raise ConfigError(
                request.dataset,
                question(absences),
                "Give --absent-means absent or --absent-means unknown, or list what was drawn in annotated.json",
            )
        return dataset
    if is_partial(case.annotation for case in dataset.cases):
        raise ConfigError(
            f"--absent-means {answer}", "contradicts the dataset, which lists what was annotated", "omit the option"
        )
    return with_absent_classes_unknown(dataset, fingerprint) if answer == "unknown" else dataset


def refuse_without_support(
    request: StudyRequest, dataset: Dataset, losses: Sequence[LossSpec], class_voxels: Sequence[int]
) -> None:
    """Refuse a trainer or a loss that would take unknown labels for background.

    Raises
    ------
    ConfigError
        The dataset has unknown labels, and the trainer or a loss cannot be used with them.
    """
    annotations = [case.annotation for case in dataset.cases]
    ignored, partial = has_ignored(annotations), is_partial(annotations)
    if not (ignored or partial):
        return
    if request.trainer != ENGINE and (partial or request.trainer != NNUNET):
        what = "classes that were not annotated" if partial else "ignored voxels"
        raise ConfigError(
            f"--trainer {request.trainer}", f"would take {what} for background", f"use --trainer {ENGINE}"
        )
    from pipeline.losses.unknown_labels import refuse_losses_without_support

    refuse_losses_without_support(losses, class_voxels, ignored=ignored, partial=partial)


def annotated_names(case: Case, dataset: Dataset) -> tuple[str, ...] | None:
    """Return the names of the classes that a case was annotated for, in ascending order of value; None for all."""
    values = case.annotation.classes
    return None if values is None else tuple(dataset.classes[value] for value in values)


def annotation_notes(dataset: Dataset) -> tuple[str, ...]:
    """Return how unknown labels are treated, for the record and the report of a study; nothing if all are known."""
    annotations = [case.annotation for case in dataset.cases]
    notes = []
    if has_ignored(annotations):
        notes.append(
            f"voxels with the ignore label ({dataset.ignore_label}) count in no loss and no metric: each image is "
            "reduced to its annotated voxels"
        )
    if is_partial(annotations):
        missing = [name for annotation in annotations for name in missing_names(annotation, dataset.classes)]
        counts = [f"{name} in {missing.count(name)}" for name in dataset.foreground.values() if name in missing]
        notes.append(
            f"classes were not annotated in some of {len(annotations)} cases ({', '.join(counts)}): there the loss "
            "merges them with the background (marginal form, Shi et al. 2021), and metrics have no value"
        )
    return tuple(notes)
