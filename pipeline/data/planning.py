"""From a fingerprint to a plan: spacing, patch, normalization and network, each with its reason."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.data.class_weights import imbalance_ratio
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.normalization import choose_normalization
from pipeline.data.patch_planning import (
    MINIMUM_EDGE,
    Triple,
    choose_patch,
    choose_strides,
    median_shape,
    shrink_to_limit,
    target_spacing,
)
from pipeline.data.plan import Plan
from pipeline.records.metrics import Family, names_of
from pipeline.records.tolerance import Tolerance, ToleranceRequest

PATCH_VOXELS = 64**3
"""Largest patch. Two CPU cores train on it in well under a second per step."""

BATCH_VOXELS = 100_000
"""Voxels of a batch of small patches."""

MINIMUM_BATCH = 2
BYTES_PER_VOXEL = 3000
"""Memory of a training step for each voxel of a batch: twice the peak measured in float32 (1,440, four channels)."""

FEATURES = (16, 32, 64, 128)
"""Feature channels of the levels of the network."""

SMALL_STRUCTURE_VOXELS = 500
"""A structure below this size needs a first level at full resolution, and surface metrics matter most for it."""

LONG_STEPS = 1500
"""A budget of at least this many steps behind a stem pays for full resolution instead (trials on the hippocampus)."""

DEFAULT_TOLERANCE = ToleranceRequest()


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    memory_gib: float = 8.0,
    tolerance: ToleranceRequest = DEFAULT_TOLERANCE,
) -> Plan:
    """Return the plan for a dataset.

    Parameters
    ----------
    dataset, fingerprint
        One case or more, as `pipeline.data.scan.scan_dataset` returns them.
    memory_gib
        Memory of one run. It limits the patch if it is less than the largest patch needs (about 1.5 GiB).
    tolerance
        Tolerances of surface Dice that the user gave.

    Raises
    ------
    ValueError
        There is no case.
    ConfigError
        `tolerance` names a class that the dataset does not have.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.datalists import read_dataset
    >>> from pipeline.data.phantoms import make_phantoms
    >>> from pipeline.data.scan import scan_dataset
    >>> with TemporaryDirectory() as name:
    ...     folder = make_phantoms(Path(name), cases=2, shape=(24, 24, 20), foreground_fraction=0.05)
    ...     result = scan_dataset(read_dataset(folder), workers=1)
    >>> plan = make_plan(result.dataset, result.fingerprint)
    >>> plan.normalisation, plan.reasons["tolerance_mm"]
    (('zscore',), '1.75 mm for surface Dice: the median edge of a pixel in plane')
    """
    if not fingerprint.scans:
        raise ValueError("a plan needs at least one scanned case")
    spacing = target_spacing(fingerprint)
    shape = median_shape(fingerprint, spacing.mm)
    limit = min(PATCH_VOXELS, int(memory_gib * 2**30 / (MINIMUM_BATCH * BYTES_PER_VOXEL)))
    strides = choose_strides(shrink_to_limit(shape, limit), spacing.mm)
    patch = choose_patch(shape, strides, limit)
    features = FEATURES[: len(strides) + 1]
    stem: Triple = (1, 1, 1)
    smallest = _smallest_structure_voxels(fingerprint)
    if len(features) == len(FEATURES) and smallest >= SMALL_STRUCTURE_VOXELS:
        stem, strides, features = strides[0], strides[1:], features[:-1]
        network_reason = (
            f"{_levels(features)} behind a stem, which is the first halving, since structures have {smallest:,.0f} "
            f"voxels and more: a step is several times as fast as at full resolution (benchmarks/training.py), which a "
            f"budget of {LONG_STEPS:,} such steps or more gets instead"
        )
    else:
        network_reason = (
            f"{_levels(features)}: an axis is halved while it keeps {MINIMUM_EDGE} voxels and is not coarser than "
            f"twice the finest"
        )
    batch = max(MINIMUM_BATCH, min(8, round(BATCH_VOXELS / math.prod(patch.patch))))
    channels = [
        choose_normalization(name, [scan.channels[index] for scan in fingerprint.scans])
        for index, name in enumerate(dataset.channels)
    ]
    tolerance.check(dataset.foreground.values())
    tolerances = tolerance.resolve(scan.spacing_mm for scan in fingerprint.scans)
    metrics, metrics_reason = _choose_metrics(dataset, fingerprint)
    return Plan(
        spacing_mm=spacing.mm,
        patch=patch.patch,
        batch=batch,
        normalisation=tuple(channel.kind for channel in channels),
        intensity_range=tuple(channel.intensity_range for channel in channels),
        intensity_mean=tuple(channel.mean for channel in channels),
        intensity_std=tuple(channel.std for channel in channels),
        channels=features,
        strides=strides,
        tolerance_mm=tolerances.mm,
        class_tolerance_mm=tolerances.by_class,
        metrics=metrics,
        reasons={
            "spacing_mm": spacing.reason,
            "patch": patch.reason,
            "network": network_reason,
            "batch": f"{batch} patches of {math.prod(patch.patch):,} voxels each",
            "normalisation": "; ".join(channel.reason for channel in channels),
            "tolerance_mm": _tolerance_reason(tolerances, is_default=tolerance.mm is None),
            "metrics": metrics_reason,
        },
        stem=stem,
        window=patch.window,
    )


def plan_for_budget(plan: Plan, steps: int) -> Plan:
    """Return the plan for a budget that pays for `steps` steps of a plan from `make_plan`."""
    return budget_plans(plan)[-1] if steps >= LONG_STEPS else plan


def budget_plans(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans of short and of long budgets; a plan without a stem is the only one."""
    if plan.stem == (1, 1, 1):
        return (plan,)
    reason = (
        f"{_levels(FEATURES)}, the first at full resolution, since the budget pays for {LONG_STEPS:,} steps and more "
        f"behind a stem"
    )
    full = replace(
        plan,
        channels=FEATURES,
        strides=(plan.stem, *plan.strides),
        stem=(1, 1, 1),
        reasons={**plan.reasons, "network": reason},
    )
    return plan, full


def smaller_memory_gib(plan: Plan) -> float:
    """Return the memory of a run, in GiB, for which `make_plan` gives half the patch of `plan`."""
    return math.prod(plan.patch) / 2 * MINIMUM_BATCH * BYTES_PER_VOXEL / 2**30


def _levels(features: Sequence[int]) -> str:
    return f"{len(features)} levels of {', '.join(map(str, features))} features"


def _smallest_structure_voxels(fingerprint: Fingerprint) -> float:
    """Return the median over cases of the mean component size of a class, for the smallest class; 0 without classes."""
    sizes: dict[int, list[float]] = {}
    for scan in fingerprint.scans:
        for value, size in scan.classes.items():
            if value and size.voxels:
                sizes.setdefault(value, []).append(size.voxels / max(size.components or 1, 1))
    return min((float(np.median(of_class)) for of_class in sizes.values()), default=0.0)


def _tolerance_reason(tolerance: Tolerance, *, is_default: bool) -> str:
    by_class = "".join(f", {mm:g} mm for {name}" for name, mm in tolerance.by_class.items())
    source = "the median edge of a pixel in plane" if is_default else "as given"
    return f"{tolerance.mm:g} mm for surface Dice: {source}{by_class}"


def _choose_metrics(dataset: Dataset, fingerprint: Fingerprint) -> tuple[tuple[str, ...], str]:
    """Return the names of the metrics to compute, and the reason for people."""
    families = [Family.OVERLAP, Family.HAUSDORFF, Family.SURFACE_AREA, Family.CALIBRATION]
    small, multiple = [], []
    for value, name in dataset.foreground.items():
        sizes = [scan.classes[value] for scan in fingerprint.scans if value in scan.classes]
        voxels = [size.voxels for size in sizes if size.voxels]
        components = [size.components for size in sizes if size.voxels]
        if voxels and np.median(voxels) < SMALL_STRUCTURE_VOXELS:
            small.append(name)
        if components and np.median(components) > 1:
            multiple.append(name)
    reasons = ["overlap and surface distances for every class"]
    if small:
        reasons.append(
            f"surface metrics matter most for {', '.join(small)} (median below {SMALL_STRUCTURE_VOXELS} voxels)"
        )
    if multiple:
        families.append(Family.LESIONS)
        reasons.append(f"lesion-wise scores for {', '.join(multiple)} (several structures per case)")
    imbalance = imbalance_ratio(list(fingerprint.class_voxels().values()))
    reasons.append(f"imbalance {imbalance:,.0f}:1")
    return names_of(*families), "; ".join(reasons)
