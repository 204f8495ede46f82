"""The default series rule of an exported bundle: it accepts images of the size and spacing of the training data."""

from pipeline.bundle.specification import SeriesRule, TrainingRanges

SPACING_TOLERANCE = 0.02
"""Relative tolerance of a spacing: headers state few digits, so that a training image may lie just outside."""


def default_series_rules(modality: str, ranges: TrainingRanges) -> tuple[SeriesRule, ...]:
    """Return the default rule, in the syntax of `pipeline.inference.dicom.rules`.

    The planes of a series may lie along any two axes, so that each size and spacing is compared with the range over all
    axes. No rule accepts other series of the modality: a model for crops would then accept whole heads.

    Parameters
    ----------
    modality
        Modality of DICOM, e.g. ``MR``.
    ranges
        Ranges over the training cases.
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
