"""The one panel of metrics: every metric for each class of a case, by one policy for empty masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.calibration import brier_score, expected_calibration_error
from pipeline.metrics.lesions import detect
from pipeline.metrics.overlap import Counts
from pipeline.metrics.states import diagonal_mm, state_of
from pipeline.metrics.surface import Mask, bounding_box, surface_distances
from pipeline.records.table import Score

OVERLAP = ("dice", "iou", "sensitivity", "precision", "volume_error", "volume_error_ml")
DISTANCES = ("hausdorff_mm", "hausdorff95_mm", "assd_mm")
CALIBRATION = ("ece", "brier")
METRICS = (*OVERLAP, *DISTANCES, "nsd", "lesion_f1", *CALIBRATION)
CALIBRATION_MARGIN = 5


def evaluate_case(
    case: str,
    reference: NDArray[np.integer[Any]],
    prediction: NDArray[np.integer[Any]],
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
        Label values (X, Y, Z) on one grid.
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
        For different shapes or an unknown metric.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"{case}: reference {reference.shape} and prediction {prediction.shape} differ in shape")
    wanted = METRICS if metrics is None else tuple(metrics)
    unknown = set(wanted) - set(METRICS)
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(sorted(unknown))}; known are {', '.join(METRICS)}")
    scores: list[Score] = []
    for index, value in enumerate(sorted(classes), start=1):
        probability = None if probabilities is None else probabilities[index]
        found, state = _class_values(
            reference == value, prediction == value, spacing_mm, probability, tolerance_mm, wanted
        )
        scores.extend(Score(case, classes[value], name, found.get(name), state) for name in wanted if name in found)
    return scores


def _class_values(
    reference: Mask,
    prediction: Mask,
    spacing_mm: Sequence[float],
    probability: NDArray[np.floating[Any]] | None,
    tolerance_mm: float,
    wanted: Sequence[str],
) -> tuple[dict[str, float | None], str]:
    """Return the metrics of one class, None where undefined, and the state."""
    counts = Counts(
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference & prediction)),
    )
    state = state_of(counts.reference, counts.prediction)
    values: dict[str, float | None] = dict.fromkeys(wanted)
    for name in CALIBRATION:
        values.pop(name, None)
    if state != "correct_absence":
        box = bounding_box(reference | prediction)
        values.update(_overlap(counts, float(np.prod(spacing_mm)) / 1000, wanted))
        values.update(_surface(reference, prediction, box, spacing_mm, tolerance_mm, state, wanted))
        if "lesion_f1" in wanted:
            values["lesion_f1"] = detect(reference[box], prediction[box]).f1
    if probability is not None and any(name in wanted for name in CALIBRATION):
        values.update(_calibration(reference, prediction, probability, wanted))
    return values, state


def _overlap(counts: Counts, voxel_ml: float, wanted: Sequence[str]) -> dict[str, float]:
    values = {name: float(getattr(counts, name)) for name in OVERLAP if name in wanted and name != "volume_error_ml"}
    if "volume_error_ml" in wanted:
        values["volume_error_ml"] = counts.volume_error_ml(voxel_ml)
    return values


def _surface(
    reference: Mask,
    prediction: Mask,
    box: tuple[slice, ...],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    state: str,
    wanted: Sequence[str],
) -> dict[str, float]:
    names = [name for name in (*DISTANCES, "nsd") if name in wanted]
    if not names:
        return {}
    if state != "ok":
        worst = diagonal_mm(reference.shape, spacing_mm)
        return {name: 0.0 if name == "nsd" else worst for name in names}
    distances = surface_distances(reference[box], prediction[box], spacing_mm)
    return {name: distances.nsd(tolerance_mm) if name == "nsd" else float(getattr(distances, name)) for name in names}


def _calibration(
    reference: Mask, prediction: Mask, probability: NDArray[np.floating[Any]], wanted: Sequence[str]
) -> dict[str, float]:
    """Score probabilities in the box around both masks and a margin; over the whole image where both are empty.

    Far background is right by so much that it would hide what matters at the structure.
    """
    union = reference | prediction
    box: tuple[slice, ...] = (slice(None),) * union.ndim
    if union.any():
        box = tuple(
            slice(max(0, edge.start - CALIBRATION_MARGIN), edge.stop + CALIBRATION_MARGIN)
            for edge in bounding_box(union)
        )
    computed = {"ece": expected_calibration_error, "brier": brier_score}
    return {name: computed[name](probability[box], reference[box]) for name in CALIBRATION if name in wanted}
