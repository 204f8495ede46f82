"""What a scan and its plan say about a dataset, as one object for programs and as tables of text for people."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.data.class_weights import EXTREME_RATIO, POLICIES, class_weights, imbalance_ratio
from pipeline.data.dataset import Dataset, Problem
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.plan import Plan
from pipeline.data.scan import ScanResult


@dataclass(frozen=True, slots=True)
class Spread:
    """How one number varies over cases."""

    min: float
    median: float
    mean: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(float(min(values)), float(np.median(values)), float(np.mean(values)), float(max(values)))


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """Intensities of one channel: the extremes of all cases, else medians over cases; None without foreground."""

    name: str
    minimum: float
    maximum: float
    mean: float
    std: float
    zero_fraction: float
    foreground_mean: float | None
    foreground_std: float | None
    foreground_percentile_00_5: float | None
    foreground_percentile_99_5: float | None


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Size of one class. Spreads are over the cases that have it, None where none does (and for the background).

    `share_of_voxels` is of all voxels; `component_ml` has the smallest, mean and largest component of all cases.
    """

    value: int
    name: str
    cases: int
    voxels: int
    share_of_voxels: float
    share_of_foreground: float | None
    volume_ml: Spread | None
    components: Spread | None
    component_ml: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything `segloss inspect` tells. `shape` and `spacing_mm` are along R, A, S; weights follow `classes`.

    Where no case is usable there is no plan and everything measured is empty.
    """

    name: str
    path: str
    layout: str
    cases: int
    cases_found: int
    patients: int
    shape: tuple[Spread, ...]
    spacing_mm: tuple[Spread, ...]
    orientations: Mapping[str, int]
    channels: tuple[ChannelSummary, ...]
    classes: tuple[ClassSummary, ...]
    imbalance_ratio: float | None
    class_weights: Mapping[str, tuple[float, ...]]
    plan: Plan | None
    problems: tuple[Problem, ...]

    @property
    def imbalance_is_extreme(self) -> bool:
        """Whether raw inverse class weights are known to make training collapse at this imbalance."""
        return self.imbalance_ratio is not None and self.imbalance_ratio >= EXTREME_RATIO

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; numbers that are not finite become null."""
        plain = {
            **asdict(self),
            "metrics": self.plan.metrics if self.plan else (),
            "imbalance_is_extreme": self.imbalance_is_extreme,
        }
        found: dict[str, Any] = _plain(plain)
        return found


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text: the first column is flush left, and the last one too where it `ends_in_prose`."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    ends_in_prose: bool = False


def inspect_scan(found: Dataset, result: ScanResult, plan: Plan | None) -> Inspection:
    """Return what there is to tell about the dataset `found` on disk, once scanned and planned."""
    dataset, fingerprint = result.dataset, result.fingerprint
    measured = [fingerprint.ras(scan) for scan in fingerprint.scans]
    classes = _classes(dataset, fingerprint)
    voxels = [item.voxels for item in classes]
    return Inspection(
        name=found.name,
        path=str(found.root),
        layout=found.layout,
        cases=len(dataset.cases),
        cases_found=len(found.cases),
        patients=len({case.patient for case in dataset.cases}),
        shape=tuple(Spread.of([shape[axis] for shape, _ in measured]) for axis in range(3)) if measured else (),
        spacing_mm=tuple(Spread.of([edge[axis] for _, edge in measured]) for axis in range(3)) if measured else (),
        orientations=dict(Counter(scan.orientation for scan in fingerprint.scans).most_common()),
        channels=_channels(dataset, fingerprint),
        classes=classes,
        imbalance_ratio=imbalance_ratio(voxels) if any(voxels) else None,
        class_weights={p: tuple(class_weights(voxels, p).tolist()) for p in POLICIES} if any(voxels) else {},
        plan=plan,
        problems=result.problems,
    )


def tables(inspection: Inspection) -> list[TextTable]:
    """Return the tables for people, none of what is not known."""
    if not inspection.cases:
        return []
    found = [table(inspection) for table in (_volume_table, _channel_table, _class_table, _size_table)]
    if inspection.class_weights:
        found.append(_weight_table(inspection))
    if inspection.plan is not None:
        found.append(_plan_table(inspection.plan))
    return found


def _channels(dataset: Dataset, fingerprint: Fingerprint) -> tuple[ChannelSummary, ...]:
    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None

    summaries = []
    for index, name in enumerate(dataset.channels if fingerprint.scans else ()):
        scans = [scan.channels[index] for scan in fingerprint.scans]
        summaries.append(
            ChannelSummary(
                name=name,
                minimum=min(scan.minimum for scan in scans),
                maximum=max(scan.maximum for scan in scans),
                mean=float(np.median([scan.mean for scan in scans])),
                std=float(np.median([scan.std for scan in scans])),
                zero_fraction=float(np.median([scan.zero_fraction for scan in scans])),
                foreground_mean=middle([scan.foreground_mean for scan in scans]),
                foreground_std=middle([scan.foreground_std for scan in scans]),
                foreground_percentile_00_5=middle([scan.foreground_percentile_00_5 for scan in scans]),
                foreground_percentile_99_5=middle([scan.foreground_percentile_99_5 for scan in scans]),
            )
        )
    return tuple(summaries)


def _classes(dataset: Dataset, fingerprint: Fingerprint) -> tuple[ClassSummary, ...]:
    if not fingerprint.scans:
        return ()
    totals = fingerprint.class_voxels()
    everything = sum(totals.values())
    foreground = sum(voxels for value, voxels in totals.items() if value)
    summaries = []
    for value in sorted(dataset.classes):
        present = [scan.classes[value] for scan in fingerprint.scans if scan.classes[value].voxels]
        sized = present if value else []
        smallest = [s.smallest_component_ml for s in sized if s.smallest_component_ml is not None]
        largest = [s.largest_component_ml for s in sized if s.largest_component_ml is not None]
        pieces = sum(s.components for s in sized)
        summaries.append(
            ClassSummary(
                value=value,
                name=dataset.classes[value],
                cases=len(present),
                voxels=totals.get(value, 0),
                share_of_voxels=totals.get(value, 0) / everything,
                share_of_foreground=totals.get(value, 0) / foreground if value and foreground else None,
                volume_ml=Spread.of([s.volume_ml for s in sized]) if sized else None,
                components=Spread.of([s.components for s in sized]) if sized else None,
                component_ml={
                    "smallest": min(smallest),
                    "mean": sum(s.volume_ml for s in sized) / pieces,
                    "largest": max(largest),
                }
                if smallest and largest and pieces
                else None,
            )
        )
    return tuple(summaries)


def _volume_table(inspection: Inspection) -> TextTable:
    rows = [
        (label, *(" x ".join(_number(getattr(axis, column)) for axis in axes) for column in ("min", "median", "max")))
        for label, axes in (("shape, voxels", inspection.shape), ("spacing, mm", inspection.spacing_mm))
    ]
    orientations = ", ".join(f"{name} ({cases})" for name, cases in inspection.orientations.items())
    return TextTable(
        "Volumes, axes R x A x S", ("", "min", "median", "max"), tuple(rows), f"stored as (cases): {orientations}"
    )


def _channel_table(inspection: Inspection) -> TextTable:
    rows = tuple(
        (
            channel.name,
            _number(channel.minimum),
            _number(channel.maximum),
            f"{_number(channel.mean)} ± {_number(channel.std)}",
            f"{channel.zero_fraction:.0%}",
            f"{_number(channel.foreground_mean)} ± {_number(channel.foreground_std)}",
            f"{_number(channel.foreground_percentile_00_5)} to {_number(channel.foreground_percentile_99_5)}",
        )
        for channel in inspection.channels
    )
    header = ("channel", "min", "max", "mean ± sd", "zeros", "foreground", "its 0.5 to 99.5 %")
    return TextTable("Intensities", header, rows, "min and max of all cases, else the median over cases")


def _class_table(inspection: Inspection) -> TextTable:
    rows = [
        (
            f"{item.value} {item.name}",
            str(item.cases),
            f"{item.voxels:,}",
            _share(item.share_of_voxels),
            _share(item.share_of_foreground),
        )
        for item in inspection.classes
    ]
    caption = ""
    if inspection.imbalance_ratio is not None:
        caption = f"imbalance {inspection.imbalance_ratio:,.0f}:1, the largest class to the smallest"
    if inspection.imbalance_is_extreme:
        caption += f"\nfrom {EXTREME_RATIO:g}:1 raw inverse weights make training collapse: use capped ones"
    return TextTable("Classes", ("class", "cases", "voxels", "of all", "of foreground"), tuple(rows), caption)


def _size_table(inspection: Inspection) -> TextTable:
    rows = []
    for item in inspection.classes:
        volume, pieces, size = item.volume_ml, item.components, item.component_ml
        if volume and pieces and size:
            numbers = (volume.min, volume.median, volume.mean, volume.max, pieces.median, pieces.max, *size.values())
            rows.append((f"{item.value} {item.name}", *map(_number, numbers)))
    header = ("class", "min", "median", "mean", "max", "pieces", "most", "smallest", "mean", "largest")
    caption = "volume a case, then pieces (median and most a case; touching corners join) and their size"
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
    shown = {
        "spacing_mm": " x ".join(_number(edge) for edge in plan.spacing_mm),
        "patch": " x ".join(map(str, plan.patch)),
        "batch": str(plan.batch),
        "normalisation": ", ".join(dict.fromkeys(plan.normalisation)),
        "network": f"{len(plan.channels)} levels" + ("" if plan.stem == (1, 1, 1) else " after a stem"),
        "tolerance_mm": f"{plan.tolerance_mm:g}",
        "metrics": str(len(plan.metrics)),
    }
    rows = [(name.replace("_mm", ", mm"), value, plan.reasons.get(name, "")) for name, value in shown.items()]
    rows.append(("", "", " ".join(plan.metrics)))
    return TextTable("Plan", ("", "", "why"), tuple(rows), ends_in_prose=True)


def _number(value: float | None) -> str:
    """Return about three figures, thousands separated; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
