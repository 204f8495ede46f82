"""All metrics of one case: each metric for each class, with one rule for empty masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.annotation import COMPLETE, Annotation
from pipeline.metrics.boxes import Box, Labels, Mask, class_boxes
from pipeline.metrics.calibration import (
    brier_score,
    calibration_region,
    expected_calibration_error,
    foreground_calibration_error,
    negative_log_likelihood,
)
from pipeline.metrics.empty_masks import state_of, surface_metric_of_failure
from pipeline.metrics.lesions import match_lesions
from pipeline.metrics.overlap import Counts
from pipeline.metrics.surface import surface_distances
from pipeline.metrics.surface_elements import surface_elements
from pipeline.records.metrics import REGISTRY, Family, metric_of, names_of
from pipeline.records.states import State
from pipeline.records.table import Score
from pipeline.records.tolerance import Tolerance

CALIBRATION = names_of(Family.CALIBRATION)
"""Metrics that need probabilities."""

ONE_MM = Tolerance(1.0)


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """Settings of an evaluation that are the same for all cases.

    Attributes
    ----------
    classes
        Label values and names of the foreground.
    tolerance
        Tolerance of surface Dice in mm.
    metrics
        Names of the metrics to compute; all of the registry by default.

    Raises
    ------
    ValueError
        A label value is below 1, or a metric is unknown.
    """

    classes: Mapping[int, str]
    tolerance: Tolerance = ONE_MM
    metrics: Sequence[str] = names_of()

    def __post_init__(self) -> None:
        if min(self.classes, default=1) < 1:
            raise ValueError(f"classes must be those of the foreground (values from 1), got {dict(self.classes)}")
        unknown = sorted(set(self.metrics) - set(REGISTRY))
        if unknown:
            raise ValueError(f"unknown metrics {', '.join(unknown)}; known are {', '.join(REGISTRY)}")


def evaluate_case(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing_mm: Sequence[float],
    settings: PanelSettings,
    probabilities: NDArray[np.floating[Any]] | None = None,
    annotation: Annotation = COMPLETE,
) -> list[Score]:
    """Return every metric for each class of one case.

    Parameters
    ----------
    case
        Name of the case, which is stored with its scores.
    reference, prediction
        Label values (X, Y, Z) on one grid: whole numbers of any type.
    spacing_mm
        Edges of a voxel along X, Y and Z.
    settings
        Classes, metrics and tolerance.
    probabilities
        (C, X, Y, Z) with the background first, then the classes in ascending order of value. Without them, calibration
        is not computed.
    annotation
        What is known of the reference. Ignored voxels count as background in both masks, and in no calibration. A class
        that was not annotated has no value, and the state ``not_annotated``.

    Returns
    -------
    list of Score
        Class by class in ascending order of value, metrics in the order of the settings. The value is None where a
        metric is undefined (`pipeline.metrics.empty_masks`).

    Raises
    ------
    ValueError
        Shapes differ, labels are not whole numbers, the spacing is not positive, or probabilities are not in 0..1.

    Examples
    --------
    >>> reference = np.zeros((8, 8, 8), np.uint8)
    >>> reference[2:6, 2:6, 2:6] = 1
    >>> settings = PanelSettings({1: "organ"}, metrics=("dice", "nsd"))
    >>> scores = evaluate_case("a", reference, reference, (1.0, 1.0, 1.0), settings)
    >>> [(score.metric, score.value, score.tolerance_mm) for score in scores]
    [('dice', 1.0, None), ('nsd', 1.0, 1.0)]

    A missed structure costs the diagonal of the image, here 8·√3 mm:

    >>> missed = evaluate_case(
    ...     "a", reference, 0 * reference, (1, 1, 1), PanelSettings({1: "organ"}, metrics=("dice", "hausdorff_mm"))
    ... )
    >>> [(score.metric, round(score.value, 2), str(score.state)) for score in missed]
    [('dice', 0.0, 'missed'), ('hausdorff_mm', 13.86, 'missed')]
    """
    classes = settings.classes
    reference = _whole_numbers(reference, f"{case}: reference")
    prediction = _whole_numbers(prediction, f"{case}: prediction")
    if reference.shape != prediction.shape:
        raise ValueError(f"{case}: reference {reference.shape} and prediction {prediction.shape} differ in shape")
    if len(spacing_mm) != reference.ndim or not all(0 < edge < np.inf for edge in spacing_mm):
        raise ValueError(f"{case}: spacing_mm needs {reference.ndim} positive numbers, got {tuple(spacing_mm)}")
    expected = (len(classes) + 1, *reference.shape)
    if probabilities is not None and probabilities.shape != expected:
        raise ValueError(f"{case}: probabilities have shape {probabilities.shape}, not {expected}")
    ignored = annotation.ignored_voxels(reference)
    reference = annotation.known_labels(reference)
    if ignored is not None:
        prediction = np.where(ignored, 0, prediction)
    boxes = class_boxes(reference, prediction, list(classes))
    scores: list[Score] = []
    for index, value in enumerate(sorted(classes), start=1):
        name, tolerance_mm = classes[value], settings.tolerance.of(classes[value])
        if not annotation.includes(value):
            scores.extend(_not_annotated(case, name, settings, probabilities is not None))
            continue
        masks = _ClassMasks(reference, prediction, value, boxes.get(value), spacing_mm, ignored)
        values = masks.values(settings.metrics, tolerance_mm, None if probabilities is None else probabilities[index])
        scores.extend(
            Score(case, name, metric, values[metric], masks.state, tolerance_mm if metric == "nsd" else None)
            for metric in settings.metrics
            if metric in values
        )
    return scores


def _not_annotated(case: str, name: str, settings: PanelSettings, with_calibration: bool) -> list[Score]:
    """Return the scores of a class that was not annotated."""
    return [
        Score(case, name, metric, None, State.NOT_ANNOTATED, settings.tolerance.of(name) if metric == "nsd" else None)
        for metric in settings.metrics
        if with_calibration or metric not in CALIBRATION
    ]


def _whole_numbers(labels: NDArray[Any], name: str) -> Labels:
    """Return labels as integers; refuse fractions and NaN, which a comparison would take for background."""
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    if np.issubdtype(labels.dtype, np.integer):
        return labels
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise ValueError(f"{name} holds values that are not whole numbers")
    return whole


class _ClassMasks:
    """Reference and prediction of one class, cropped to the box around both."""

    def __init__(
        self,
        reference: Labels,
        prediction: Labels,
        value: int,
        box: Box | None,
        spacing_mm: Sequence[float],
        ignored: Mask | None,
    ) -> None:
        self.whole_reference = reference
        self.ignored = ignored
        self.value = value
        self.spacing_mm = spacing_mm
        self.box = box if box is not None else (slice(0, 0),) * reference.ndim
        self.reference: Mask = reference[self.box] == value
        self.prediction: Mask = prediction[self.box] == value
        self.counts = Counts(
            int(np.count_nonzero(self.reference)),
            int(np.count_nonzero(self.prediction)),
            int(np.count_nonzero(self.reference & self.prediction)),
        )
        self.state = state_of(self.counts.reference, self.counts.prediction)

    def values(
        self, metrics: Sequence[str], tolerance_mm: float, probability: NDArray[np.floating[Any]] | None
    ) -> dict[str, float | None]:
        """Return the values by metric, None where undefined; calibration only with probabilities."""
        names = [name for name in metrics if probability is not None or name not in CALIBRATION]
        if self.state is State.CORRECT_ABSENCE:
            return dict.fromkeys(names)
        values: dict[str, float | None] = {}
        values.update(self._overlap(names))
        values.update(self._surface(names, tolerance_mm))
        values.update(self._lesions(names))
        if probability is not None:
            values.update(self._calibration(names, probability))
        return values

    def _overlap(self, names: Sequence[str]) -> dict[str, float]:
        voxel_ml = float(np.prod(self.spacing_mm)) / 1000
        return {
            name: self.counts.volume_error_ml(voxel_ml) if name == "volume_error_ml" else getattr(self.counts, name)
            for name in names
            if metric_of(name).family is Family.OVERLAP
        }

    def _surface(self, names: Sequence[str], tolerance_mm: float) -> dict[str, float]:
        names = [name for name in names if metric_of(name).family in (Family.HAUSDORFF, Family.SURFACE_AREA)]
        if self.state is not State.OK:
            return {
                name: surface_metric_of_failure(name, self.whole_reference.shape, self.spacing_mm) for name in names
            }
        values: dict[str, float] = {}
        # The two families define surfaces differently. Each searches for nearest points, which takes most of the time.
        if any(metric_of(name).family is Family.HAUSDORFF for name in names):
            distances = surface_distances(self.reference, self.prediction, self.spacing_mm)
            values |= {"hausdorff_mm": distances.hausdorff_mm, "hausdorff95_mm": distances.hausdorff95_mm}
        if any(metric_of(name).family is Family.SURFACE_AREA for name in names):
            elements = surface_elements(self.reference, self.prediction, self.spacing_mm)
            values |= {"assd_mm": elements.assd_mm, "nsd": elements.nsd(tolerance_mm)}
        return {name: values[name] for name in names}

    def _lesions(self, names: Sequence[str]) -> dict[str, float]:
        names = [name for name in names if metric_of(name).family is Family.LESIONS]
        if not names:
            return {}
        matching = match_lesions(self.reference, self.prediction)
        values = {
            "lesion_f1": matching.f1,
            "lesion_dice": matching.lesion_dice,
            "panoptic_quality": matching.panoptic_quality,
            "lesion_false_positives": float(matching.false_positives),
        }
        return {name: values[name] for name in names}

    def _calibration(self, names: Sequence[str], probability: NDArray[np.floating[Any]]) -> dict[str, float]:
        names = [name for name in names if name in CALIBRATION]
        if not names:
            return {}
        # Calibration looks beyond the box: false positives far from the reference count, too.
        truth: Mask = self.whole_reference == self.value
        region = calibration_region(truth, self.spacing_mm)
        near, near_truth = probability[region], truth[region]
        if self.ignored is not None:
            near, near_truth = near[~self.ignored[region]], near_truth[~self.ignored[region]]
            probability, truth = probability[~self.ignored], truth[~self.ignored]
        compute = {
            "ece": lambda: expected_calibration_error(near, near_truth),
            "ace_foreground": lambda: foreground_calibration_error(probability, truth),
            "brier": lambda: brier_score(near, near_truth),
            "nll": lambda: negative_log_likelihood(probability, truth, near.size),
        }
        return {name: compute[name]() for name in names}
