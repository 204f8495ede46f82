"""Evaluation of one pair of files: both are read and checked, then all metrics of masks are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.annotation import COMPLETE, Annotation
from pipeline.data.integrity import grid_difference
from pipeline.data.labels import NotALabel, count_values, label_values
from pipeline.data.nifti import read_nifti
from pipeline.data.nifti_header import NiftiHeader
from pipeline.errors import DatasetError
from pipeline.metrics.file_pairs import FilePair
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.metrics import Family, metric_of, names_of
from pipeline.records.table import Score
from pipeline.records.tolerance import Tolerance

METRICS = tuple(name for name in names_of() if metric_of(name).family is not Family.CALIBRATION)
"""Metrics of masks: all but calibration, which needs probabilities."""


@dataclass(frozen=True, slots=True)
class EvaluatedCase:
    """Scores of one case, and the label values other than 0 in its two masks."""

    case: str
    scores: tuple[Score, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be evaluated: the file concerned, the problem and the remedy."""

    case: str
    file: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """Function from a pair of files to its scores; picklable, for use in worker processes.

    Attributes
    ----------
    classes
        Label values and names of the foreground; None takes the values in the two files as classes.
    tolerance
        Tolerance of surface Dice.
    regions
        Label values of each region, by its name. A region is the union of some values and evaluated like a class.
    annotation
        What is known of the references.
    """

    classes: Mapping[int, str] | None
    tolerance: Tolerance
    regions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    annotation: Annotation = COMPLETE

    def __call__(self, pair: FilePair) -> EvaluatedCase | Failure:
        """Return the scores of a pair, or the first problem that prevents its evaluation."""
        reference = _read_label_map(pair.reference, pair.case)
        if isinstance(reference, Failure):
            return reference
        prediction = _read_label_map(pair.prediction, pair.case)
        if isinstance(prediction, Failure):
            return prediction
        difference = grid_difference(prediction.header, reference.header)
        if difference:
            problem = f"is not on the grid of its reference {pair.reference.name}: it has {difference}"
            return Failure(pair.case, str(pair.prediction), problem, "resample the prediction to its reference's grid")
        values = tuple(sorted((reference.values | prediction.values) - {self.annotation.ignore}))
        classes = {value: str(value) for value in values} if self.classes is None else self.classes
        settings = PanelSettings(classes, self.tolerance, METRICS)
        spacing_mm = reference.header.spacing_mm
        known = self.annotation
        scores = evaluate_case(pair.case, reference.labels, prediction.labels, spacing_mm, settings, annotation=known)
        ignored = known.ignored_voxels(reference.labels)
        for name, members in self.regions.items():
            inside, found = (np.isin(labels, list(members)) for labels in (reference.labels, prediction.labels))
            if ignored is not None:
                inside, found = inside & ~ignored, found & ~ignored
            of_region = PanelSettings({1: name}, self.tolerance, METRICS)
            scores += evaluate_case(pair.case, inside, found, spacing_mm, of_region)
        return EvaluatedCase(pair.case, tuple(scores), values)


@dataclass(frozen=True, slots=True)
class _LabelMap:
    """Label values (X, Y, Z) of a file, and which of them occur, without 0."""

    labels: np.ndarray
    header: NiftiHeader
    values: frozenset[int]


def _read_label_map(path: Path, case: str) -> _LabelMap | Failure:
    try:
        file = read_nifti(path)
        if file.header.channels > 1:
            return Failure(case, str(path), "is 4D, not a label map", "store one class value per voxel")
        labels = label_values(file.voxels, file.header)
        values = frozenset(count_values(labels)) - {0}
    except DatasetError as error:
        return Failure(case, str(path), error.problem, error.remedy)
    except NotALabel as error:
        return Failure(case, str(path), str(error), "give label maps: whole numbers, one for each class")
    return _LabelMap(labels.reshape(file.header.grid, order="F"), file.header, values)
