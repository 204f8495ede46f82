"""The series rule of an exported bundle: images of the size and spacing of its training data, and no others."""

from typing import Any

from pipeline.bundle.specification import TrainingRanges

SPACING_TOLERANCE = 0.02
"""Headers give spacings with few digits, so that a series of the training data's own spacing may lie just outside."""


def default_series_rules(modality: str, ranges: TrainingRanges) -> tuple[dict[str, Any], ...]:
    """Return the one rule, in the syntax of `pipeline.inference.dicom.rules`.

    The planes of a series lie along any two axes, so that each size and spacing is compared with the range over all
    axes. There is no rule for other series of the modality: a model for crops would accept whole heads.
    """
    edges = [edge for axis in ranges.shape for edge in axis]
    gaps = [gap for axis in ranges.spacing_mm for gap in axis]
    size = [min(edges), max(edges)]
    spacing = [round(min(gaps) * (1 - SPACING_TOLERANCE), 4), round(max(gaps) * (1 + SPACING_TOLERANCE), 4)]
    conditions = {
        "Modality": modality,
        "Rows": size,
        "Columns": size,
        "NumberOfSlices": size,
        "PixelSpacing": spacing,
        "SpacingBetweenSlices": spacing,
    }
    return ({"name": f"{modality} series of the size and spacing of the training data", "conditions": conditions},)
