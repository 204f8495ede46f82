"""The one panel of metrics: every metric for each class of a case, by one policy for empty masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.boxes import Box, Labels, Mask, class_boxes
from pipeline.metrics.calibration import brier_score, calibration_region, expected_calibration_error
from pipeline.metrics.lesions import detect
from pipeline.metrics.overlap import Counts
from pipeline.metrics.states import diagonal_mm, state_of
from pipeline.metrics.surface import surface_distances
from pipeline.records.table import Score

OVERLAP = ("dice", "iou", "sensitivity", "precision", "volume_error", "volume_error_ml")
DISTANCES = ("hausdorff_mm", "hausdorff95_mm", "assd_mm")
LESIONS = ("lesion_f1", "lesion_false_positives")
CALIBRATION = ("ece", "brier")
METRICS = (*OVERLAP, *DISTANCES, "nsd", *LESIONS, *CALIBRATION)

QUANTITIES = ("volume_error_ml", "lesion_false_positives")
"""Amounts that an empty mask has too (0 mL, 0 false positives): shown beside the scores, never ranked alone."""


def evaluate_case(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing_mm: Sequence[float],
    classes: Mapping[int, str],
    *,
    probabilities: NDArray[np.floating[Any]] | None = None,
    tolerance_mm: float = 1.0,
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
    tolerance_mm
        Of the surface Dice.
    metrics
        Names to compute, by default all.

    Raises
    ------
    ValueError
        For different shapes, values that are not whole, a spacing that is not positive, probabilities that are none,
        or an unknown metric.
    """
    wanted = _wanted(metrics)
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
        found = one.values(wanted, tolerance_mm, None if probabilities is None else probabilities[index])
        scores.extend(Score(case, classes[value], name, found[name], one.state) for name in wanted if name in found)
    return scores


def _wanted(metrics: Sequence[str] | None) -> tuple[str, ...]:
    wanted = METRICS if metrics is None else tuple(metrics)
    unknown = set(wanted) - set(METRICS)
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(sorted(unknown))}; known are {', '.join(METRICS)}")
    return wanted


def _whole(labels: NDArray[Any], what: str) -> Labels:
    """Return labels as integers; fractions and NaN are refused, since a comparison would call them background."""
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
        self, wanted: Sequence[str], tolerance_mm: float, probability: NDArray[np.floating[Any]] | None
    ) -> dict[str, float | None]:
        """Return the wanted metrics, None where undefined; calibration only where there are probabilities."""
        names = [name for name in wanted if probability is not None or name not in CALIBRATION]
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
            for name in OVERLAP
            if name in names
        }

    def _surface(self, names: Sequence[str], tolerance_mm: float) -> dict[str, float]:
        names = [name for name in (*DISTANCES, "nsd") if name in names]
        if not names:
            return {}
        if self.state != "ok":
            worst = diagonal_mm(self.whole_reference.shape, self.spacing_mm)
            return {name: 0.0 if name == "nsd" else worst for name in names}
        distances = surface_distances(self.reference, self.prediction, self.spacing_mm)
        return {name: distances.nsd(tolerance_mm) if name == "nsd" else getattr(distances, name) for name in names}

    def _lesions(self, names: Sequence[str]) -> dict[str, float]:
        if not any(name in names for name in LESIONS):
            return {}
        detection = detect(self.reference, self.prediction)
        found = {"lesion_f1": detection.f1, "lesion_false_positives": float(detection.invented)}
        return {name: value for name, value in found.items() if name in names}

    def _calibration(self, names: Sequence[str], probability: NDArray[np.floating[Any]]) -> dict[str, float]:
        computed = {"ece": expected_calibration_error, "brier": brier_score}
        if not any(name in names for name in computed):
            return {}
        truth: Mask = self.whole_reference == self.value
        region = calibration_region(truth, self.spacing_mm)
        return {
            name: compute(probability[region], truth[region]) for name, compute in computed.items() if name in names
        }
