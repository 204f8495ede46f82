"""Tables of text that show an inspection to people."""

import math
from dataclasses import astuple, dataclass

from pipeline.data.class_weights import EXTREME_RATIO
from pipeline.data.inspection import Inspection
from pipeline.data.plan import Plan


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text.

    Attributes
    ----------
    title, header, rows, caption
        Content; every row has as many cells as the header.
    ends_in_prose
        True if the last column holds sentences, which are flush left.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    ends_in_prose: bool = False


def inspection_tables(inspection: Inspection) -> list[TextTable]:
    """Return the tables of an inspection; without a usable case there are none.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.datalists import read_dataset
    >>> from pipeline.data.phantoms import make_phantoms
    >>> from pipeline.data.inspection import inspect_scan
    >>> from pipeline.data.scan import scan_dataset
    >>> with TemporaryDirectory() as name:
    ...     dataset = read_dataset(make_phantoms(Path(name), cases=2, shape=(24, 24, 20), foreground_fraction=0.05))
    ...     inspection = inspect_scan(dataset, scan_dataset(dataset, workers=1), plan=None)
    >>> [table.title.split(",")[0] for table in inspection_tables(inspection)]
    ['Volumes', 'Intensities', 'Classes', 'Sizes in mL', 'Class weights under each policy']
    """
    if not inspection.cases:
        return []
    tables = [table(inspection) for table in (_volume_table, _channel_table, _class_table, _size_table)]
    if inspection.class_weights:
        tables.append(_weight_table(inspection))
    if inspection.plan is not None:
        tables.append(_plan_table(inspection.plan))
    return tables


def _volume_table(inspection: Inspection) -> TextTable:
    rows = [
        (label, *(" x ".join(_number(getattr(axis, column)) for axis in axes) for column in ("min", "median", "max")))
        for label, axes in (("shape, voxels", inspection.shape), ("spacing, mm", inspection.spacing_mm))
    ]
    orientations = ", ".join(f"{name} ({cases})" for name, cases in inspection.orientations.items())
    return TextTable(
        "Volumes, axes R x A x S",
        ("", "min", "median", "max"),
        tuple(rows),
        f"stored orientation (cases): {orientations}",
    )


def _channel_table(inspection: Inspection) -> TextTable:
    rows = []
    for channel in inspection.channels:
        values = channel.intensities
        rows.append(
            (
                channel.name,
                _number(values.minimum),
                _number(values.maximum),
                f"{_number(values.mean)} ± {_number(values.std)}",
                f"{values.zero_fraction:.0%}",
                f"{_number(values.foreground_mean)} ± {_number(values.foreground_std)}",
                f"{_number(values.foreground_percentile_00_5)} to {_number(values.foreground_percentile_99_5)}",
            )
        )
    header = ("channel", "min", "max", "mean ± sd", "zeros", "foreground", "its 0.5 to 99.5 %")
    return TextTable("Intensities", header, tuple(rows), "min and max over all cases; otherwise the median over cases")


def _class_table(inspection: Inspection) -> TextTable:
    rows = [
        (
            f"{item.value} {item.name}",
            str(item.cases) if item.annotated is None else f"{item.cases} of {item.annotated} annotated",
            f"{item.voxels:,}",
            _percentage(item.share_of_voxels),
            _percentage(item.share_of_foreground),
        )
        for item in inspection.classes
    ]
    caption = ""
    if inspection.imbalance_ratio is not None:
        caption = f"imbalance {inspection.imbalance_ratio:,.0f}:1, the largest class to the smallest"
    if inspection.imbalance_is_extreme:
        caption += f"\nfrom {EXTREME_RATIO:g}:1, raw inverse weights make training collapse: use capped ones"
    if inspection.ignored_share is not None:
        caption += f"\n{_percentage(inspection.ignored_share)} of all voxels are ignored; shares are of the others"
    return TextTable("Classes", ("class", "cases", "voxels", "of all", "of foreground"), tuple(rows), caption)


def _size_table(inspection: Inspection) -> TextTable:
    rows = []
    for item in inspection.classes:
        volume, pieces, size = item.volume_ml, item.components, item.component_ml
        if volume and pieces and size:
            numbers = (volume.min, volume.median, volume.mean, volume.max, pieces.median, pieces.max, *astuple(size))
            rows.append((f"{item.value} {item.name}", *map(_number, numbers)))
    header = ("class", "min", "median", "mean", "max", "pieces", "max", "smallest", "mean", "largest")
    caption = (
        "volume per case; pieces per case (median and maximum; pieces that touch at corners are one); size of pieces"
    )
    return TextTable("Sizes in mL, over the cases that have the class", header, tuple(rows), caption)


def _weight_table(inspection: Inspection) -> TextTable:
    weights = inspection.class_weights
    rows = [
        (f"{item.value} {item.name}", *(_number(weights[policy][index]) for policy in weights))
        for index, item in enumerate(inspection.classes)
    ]
    header = ("class", *(policy.replace("_", " ").replace("frequency", "freq.") for policy in weights))
    return TextTable("Class weights under each policy", header, tuple(rows), "mean 1; the largest ratio is capped")


def _plan_table(plan: Plan) -> TextTable:
    values = {
        "spacing_mm": " x ".join(_number(edge) for edge in plan.spacing_mm),
        "patch": " x ".join(map(str, plan.patch)),
        "batch": str(plan.batch),
        "normalisation": ", ".join(dict.fromkeys(plan.normalisation)),
        "network": f"{len(plan.channels)} levels" + ("" if plan.stem == (1, 1, 1) else " after a stem"),
        "tolerance_mm": f"{plan.tolerance_mm:g}",
        "metrics": str(len(plan.metrics)),
    }
    labels = {"spacing_mm": "spacing, mm", "tolerance_mm": "tolerance, mm", "normalisation": "normalization"}
    rows = [(labels.get(name, name), value, plan.reasons.get(name, "")) for name, value in values.items()]
    rows.append(("", "", " ".join(plan.metrics)))
    return TextTable("Plan", ("", "", "reason"), tuple(rows), ends_in_prose=True)


def _number(value: float | None) -> str:
    """Return about three significant digits with separated thousands, or a dash for an unknown value."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _percentage(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"
