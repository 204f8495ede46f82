"""Summary of a dataset after its scan: sizes, intensities, imbalance, problems and plan."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.class_weights import EXTREME_RATIO, POLICIES, class_weights, imbalance_ratio
from pipeline.data.dataset import Dataset, Problem
from pipeline.data.fingerprint import ClassScan, Fingerprint, IntensityStatistics
from pipeline.data.plan import Plan
from pipeline.data.scan import ScanResult
from pipeline.system.json_values import JsonValue, to_json_object


@dataclass(frozen=True, slots=True)
class Spread:
    """Range, median and mean of one number over cases."""

    min: float
    median: float
    mean: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value.

        Examples
        --------
        >>> Spread.of([1, 2, 6])
        Spread(min=1.0, median=2.0, mean=3.0, max=6.0)
        """
        return cls(float(min(values)), float(np.median(values)), float(np.mean(values)), float(max(values)))


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """Intensities of one channel: minimum and maximum over all cases, all other numbers the median over cases."""

    name: str
    intensities: IntensityStatistics


@dataclass(frozen=True, slots=True)
class ComponentSizes:
    """Sizes in mL of the components of one class in all cases."""

    smallest: float
    mean: float
    largest: float


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Size of one class over the cases that have it.

    Attributes
    ----------
    value, name
        Label value and name.
    cases
        Number of cases with at least one voxel of the class.
    voxels
        Voxels in all cases.
    share_of_voxels, share_of_foreground
        Share of the voxels of all classes, and of all but the background; in 0..1.
    volume_ml, components
        Volume and number of components per case. None for the background and for a class in no case.
    component_ml
        Size of the components of all cases; None where `components` is.
    annotated
        Number of cases that were annotated for the class; None if all were.
    """

    value: int
    name: str
    cases: int
    voxels: int
    share_of_voxels: float
    share_of_foreground: float | None
    volume_ml: Spread | None
    components: Spread | None
    component_ml: ComponentSizes | None
    annotated: int | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Result of `whichloss inspect`. If no case is usable there is no plan, and all measurements are empty.

    Attributes
    ----------
    name, path, layout
        Name, folder and layout of the dataset.
    cases, cases_found, patients
        Usable cases, all cases, and patients of the usable cases.
    shape, spacing_mm
        Voxels, and edges of a voxel, along R, A and S.
    orientations
        Number of cases by directions of their stored axes, the most frequent first.
    channels, classes
        Summary of each channel and of each class, the background first.
    imbalance_ratio
        Voxels of the largest class over those of the smallest one that has any.
    class_weights
        Weights by policy, in the order of `classes`.
    plan
        Preprocessing and network.
    problems
        Everything that is wrong with files, or worth knowing.
    ignored_share
        Share of the voxels of all cases that nobody annotated, in 0..1; None without an ignore label.
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
    ignored_share: float | None = None

    @property
    def imbalance_is_extreme(self) -> bool:
        """True if raw inverse class weights are known to make training collapse at this imbalance."""
        return self.imbalance_ratio is not None and self.imbalance_ratio >= EXTREME_RATIO

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object of `whichloss inspect --json`; numbers that are not finite become null."""
        content = to_json_object(self)
        content["channels"] = [
            {"name": channel.name, **to_json_object(channel.intensities)} for channel in self.channels
        ]
        content["metrics"] = list(self.plan.metrics) if self.plan else []
        content["imbalance_is_extreme"] = self.imbalance_is_extreme
        return content


def inspect_scan(dataset: Dataset, result: ScanResult, plan: Plan | None) -> Inspection:
    """Return the summary of a dataset.

    Parameters
    ----------
    dataset
        The dataset as it was read, with all cases.
    result
        Its scan, with the usable cases.
    plan
        The plan that follows, None without a usable case.
    """
    usable, fingerprint = result.dataset, result.fingerprint
    grids = [scan.in_ras() for scan in fingerprint.scans]
    classes = _summarize_classes(usable, fingerprint)
    voxels = [item.voxels for item in classes]
    return Inspection(
        name=dataset.name,
        path=str(dataset.root),
        layout=dataset.layout,
        cases=len(usable.cases),
        cases_found=len(dataset.cases),
        patients=len({case.patient for case in usable.cases}),
        shape=tuple(Spread.of([shape[axis] for shape, _ in grids]) for axis in range(3)) if grids else (),
        spacing_mm=tuple(Spread.of([spacing[axis] for _, spacing in grids]) for axis in range(3)) if grids else (),
        orientations=dict(Counter(scan.orientation for scan in fingerprint.scans).most_common()),
        channels=tuple(
            ChannelSummary(name, _summarize_intensities([scan.channels[index] for scan in fingerprint.scans]))
            for index, name in enumerate(usable.channels if fingerprint.scans else ())
        ),
        classes=classes,
        imbalance_ratio=imbalance_ratio(voxels) if any(voxels) else None,
        class_weights={p: tuple(class_weights(voxels, p).tolist()) for p in POLICIES} if any(voxels) else {},
        plan=plan,
        problems=result.problems,
        ignored_share=_ignored_share(usable, fingerprint),
    )


def _summarize_intensities(cases: Sequence[IntensityStatistics]) -> IntensityStatistics:
    """Return the minimum and maximum over cases, and the median over cases of all other numbers."""
    return IntensityStatistics(
        minimum=min(case.minimum for case in cases),
        maximum=max(case.maximum for case in cases),
        mean=float(np.median([case.mean for case in cases])),
        std=float(np.median([case.std for case in cases])),
        zero_fraction=float(np.median([case.zero_fraction for case in cases])),
        foreground_mean=_median_of_known([case.foreground_mean for case in cases]),
        foreground_std=_median_of_known([case.foreground_std for case in cases]),
        foreground_percentile_00_5=_median_of_known([case.foreground_percentile_00_5 for case in cases]),
        foreground_percentile_99_5=_median_of_known([case.foreground_percentile_99_5 for case in cases]),
    )


def _median_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _ignored_share(dataset: Dataset, fingerprint: Fingerprint) -> float | None:
    if dataset.ignore_label is None or not fingerprint.scans:
        return None
    known = sum(fingerprint.class_voxels().values())
    return 1 - known / sum(math.prod(scan.shape) for scan in fingerprint.scans)


def _summarize_classes(dataset: Dataset, fingerprint: Fingerprint) -> tuple[ClassSummary, ...]:
    if not fingerprint.scans:
        return ()
    totals = fingerprint.class_voxels()
    all_voxels = sum(totals.values())
    foreground = sum(voxels for value, voxels in totals.items() if value)
    summaries = []
    for value in sorted(dataset.classes):
        present = [scan.classes[value] for scan in fingerprint.scans if scan.classes[value].voxels]
        measured = present if value else []
        summaries.append(
            ClassSummary(
                value=value,
                name=dataset.classes[value],
                cases=len(present),
                voxels=totals.get(value, 0),
                share_of_voxels=totals.get(value, 0) / all_voxels,
                share_of_foreground=totals.get(value, 0) / foreground if value and foreground else None,
                volume_ml=Spread.of([size.volume_ml for size in measured]) if measured else None,
                components=Spread.of([size.components for size in measured]) if measured else None,
                component_ml=_component_sizes(measured),
                annotated=_annotated_cases(dataset, value),
            )
        )
    return tuple(summaries)


def _annotated_cases(dataset: Dataset, value: int) -> int | None:
    annotated = sum(case.annotation.includes(value) for case in dataset.cases)
    return None if annotated == len(dataset.cases) else annotated


def _component_sizes(cases: Sequence[ClassScan]) -> ComponentSizes | None:
    smallest = [size.smallest_component_ml for size in cases if size.smallest_component_ml is not None]
    largest = [size.largest_component_ml for size in cases if size.largest_component_ml is not None]
    components = sum(size.components for size in cases)
    if not (smallest and largest and components):
        return None
    return ComponentSizes(min(smallest), sum(size.volume_ml for size in cases) / components, max(largest))
