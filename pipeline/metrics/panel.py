"""All metrics of one case: every metric for each class, with one policy for empty masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Box, Labels, Mask, class_boxes
from pipeline.metrics.calibration import (
    brier_score,
    calibration_region,
    expected_calibration_error,
    foreground_calibration_error,
    negative_log_likelihood,
)
from pipeline.metrics.lesions import detect
from pipeline.metrics.overlap import Counts
from pipeline.metrics.states import diagonal_mm, state_of
from pipeline.metrics.surface import surface_distances
from pipeline.metrics.surface_elements import surface_elements
from pipeline.records.metrics import REGISTRY, Family, metric_of, names_of
from pipeline.records.table import Score
from pipeline.records.tolerance import Tolerance

CALIBRATION = names_of(Family.CALIBRATION)
"""Metrics that need probabilities."""

ONE_MM = Tolerance(1.0)


def evaluate_case(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing_mm: Sequence[float],
    classes: Mapping[int, str],
    *,
    probabilities: NDArray[np.floating[Any]] | None = None,
    tolerance: Tolerance = ONE_MM,
    metrics: Sequence[str] | None = None,
) -> list[Score]:
    """Return every metric for each class of one case.

    Parameters
    ----------
    reference, prediction
        Label values (X, Y, Z) on one grid: whole numbers, of any type.
    spacing_mm
        Edges of a voxel.
    classes
        Label values and names of the foreground.
    probabilities
        (C, X, Y, Z) with the background first, then the classes in ascending order of value; without them calibration
        is left out.
    tolerance
        Tolerance of surface Dice, stored with its values.
    metrics
        Names to compute, by default all of the registry.

    Raises
    ------
    ValueError
        For different shapes, values that are not whole, a spacing that is not positive, values that are not
        probabilities, or an unknown metric.

    Examples
    --------
    >>> reference = np.zeros((8, 8, 8), np.uint8)
    >>> reference[2:6, 2:6, 2:6] = 1
    >>> scores = evaluate_case("a", reference, reference, (1.0, 1.0, 1.0), {1: "organ"}, metrics=("dice", "nsd"))
    >>> [(score.metric, score.value, score.tolerance_mm) for score in scores]
    [('dice', 1.0, None), ('nsd', 1.0, 1.0)]
    """
    names = _checked_names(metrics)
    if min(classes, default=1) < 1:
        raise ValueError(f"classes are those of the foreground, got {dict(classes)}")
    reference, prediction = _whole(reference, f"{case}: reference"), _whole(prediction, f"{case}: prediction")
    if reference.shape != prediction.shape:
        raise ValueError(f"{case}: reference {reference.shape} and prediction {prediction.shape} differ in shape")
    if len(spacing_mm) != reference.ndim or not all(0 < edge < np.inf for edge in spacing_mm):
        raise ValueError(f"{case}: spacing_mm needs {reference.ndim} positive numbers, got {tuple(spacing_mm)}")
    expected = (len(classes) + 1, *reference.shape)
    if probabilities is not None and probabilities.shape != expected:
        raise ValueError(f"{case}: probabilities have shape {probabilities.shape}, not {expected}")
    boxes = class_boxes(reference, prediction, list(classes))
    scores: list[Score] = []
    for index, value in enumerate(sorted(classes), start=1):
        one = _OneClass(reference, prediction, value, boxes.get(value), spacing_mm)
        name, tolerance_mm = classes[value], tolerance.of(classes[value])
        found = one.values(names, tolerance_mm, None if probabilities is None else probabilities[index])
        scores.extend(
            Score(case, name, metric, found[metric], one.state, tolerance_mm if metric == "nsd" else None)
            for metric in names
            if metric in found
        )
    return scores


def _checked_names(metrics: Sequence[str] | None) -> tuple[str, ...]:
    names = names_of() if metrics is None else tuple(metrics)
    unknown = set(names) - set(REGISTRY)
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(sorted(unknown))}; known are {', '.join(REGISTRY)}")
    return names


def _whole(labels: NDArray[Any], what: str) -> Labels:
    """Return labels as integers; refuse fractions and NaN, which a comparison would take for background."""
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    if np.issubdtype(labels.dtype, np.integer):
        return labels
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise ValueError(f"{what} holds values that are not whole numbers")
    return whole


class _OneClass:
    """The masks of one class, cut to the box around both."""

    def __init__(
        self, reference: Labels, prediction: Labels, value: int, box: Box | None, spacing_mm: Sequence[float]
    ) -> None:
        self.whole_reference = reference
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
        """Return some metrics, None where undefined; calibration only where there are probabilities."""
        names = [name for name in metrics if probability is not None or name not in CALIBRATION]
        if self.state == "correct_absence":
            return dict.fromkeys(names)
        found: dict[str, float | None] = {}
        found.update(self._overlap(names))
        found.update(self._surface(names, tolerance_mm))
        found.update(self._lesions(names))
        if probability is not None:
            found.update(self._calibration(names, probability))
        return found

    def _overlap(self, names: Sequence[str]) -> dict[str, float]:
        voxel_ml = float(np.prod(self.spacing_mm)) / 1000
        return {
            name: self.counts.volume_error_ml(voxel_ml) if name == "volume_error_ml" else getattr(self.counts, name)
            for name in names
            if metric_of(name).family is Family.OVERLAP
        }

    def _surface(self, names: Sequence[str], tolerance_mm: float) -> dict[str, float]:
        names = [name for name in names if metric_of(name).family in (Family.HAUSDORFF, Family.SURFACE_AREA)]
        if self.state != "ok":
            worst = diagonal_mm(self.whole_reference.shape, self.spacing_mm)
            return {name: worst if metric_of(name).is_distance else 0.0 for name in names}
        found: dict[str, float] = {}
        if any(metric_of(name).family is Family.HAUSDORFF for name in names):
            distances = surface_distances(self.reference, self.prediction, self.spacing_mm)
            found |= {"hausdorff_mm": distances.hausdorff_mm, "hausdorff95_mm": distances.hausdorff95_mm}
        if any(metric_of(name).family is Family.SURFACE_AREA for name in names):
            elements = surface_elements(self.reference, self.prediction, self.spacing_mm)
            found |= {"assd_mm": elements.assd_mm, "nsd": elements.nsd(tolerance_mm)}
        return {name: found[name] for name in names}

    def _lesions(self, names: Sequence[str]) -> dict[str, float]:
        names = [name for name in names if metric_of(name).family is Family.LESIONS]
        if not names:
            return {}
        detection = detect(self.reference, self.prediction)
        found = {
            "lesion_f1": detection.f1,
            "lesion_dice": detection.lesion_dice,
            "panoptic_quality": detection.panoptic_quality,
            "lesion_false_positives": float(detection.invented),
        }
        return {name: found[name] for name in names}

    def _calibration(self, names: Sequence[str], probability: NDArray[np.floating[Any]]) -> dict[str, float]:
        names = [name for name in names if name in CALIBRATION]
        if not names:
            return {}
        truth: Mask = self.whole_reference == self.value
        region = calibration_region(truth, self.spacing_mm)
        near, near_truth = probability[region], truth[region]
        compute = {
            "ece": lambda: expected_calibration_error(near, near_truth),
            "ace_foreground": lambda: foreground_calibration_error(probability, truth),
            "brier": lambda: brier_score(near, near_truth),
            "nll": lambda: negative_log_likelihood(probability, truth, near.size),
        }
        return {name: compute[name]() for name in names}
