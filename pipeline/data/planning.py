"""From a fingerprint to a plan: spacing, patch, normalisation and network, each with its reason."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.data.class_weights import imbalance_ratio
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.plan import Normalisation, Plan
from pipeline.records.metrics import Family, names_of
from pipeline.records.tolerance import Tolerance, ToleranceRequest

PATCH_VOXELS = 64**3
"""Largest patch: what two CPU cores train in well under a second a step."""

BATCH_VOXELS = 100_000
MINIMUM_BATCH = 2
BYTES_PER_VOXEL = 3000
"""Of one training step, for each voxel of a batch: twice the peak measured in float32 (1,440, four channels)."""

MINIMUM_EDGE = 4
"""An axis is not halved below this many voxels."""

FEATURES = (16, 32, 64, 128)
ANISOTROPY = 3.0
MOSTLY_ZERO = 0.4
SMALL_STRUCTURE_VOXELS = 500
LONG_STEPS = 1500
"""A training whose budget pays for so many steps behind a stem goes without one, at full resolution
(docs/performance.md)."""

DEFAULT_TOLERANCE = ToleranceRequest()

LEAST_SHARE = 0.85
"""Of a volume's edge that a patch may have for lack of divisibility, rather than be padded."""

Triple = tuple[int, int, int]


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    memory_gib: float = 8.0,
    tolerance: ToleranceRequest = DEFAULT_TOLERANCE,
) -> Plan:
    """Return the plan for a dataset, from what was measured of it.

    Parameters
    ----------
    dataset, fingerprint
        Of one case or more, as `pipeline.data.scan.scan_dataset` returns them.
    memory_gib
        What one run may take; it bounds the patch where it is less than the largest patch needs (about 1.5 GiB).
    tolerance
        Tolerances of surface Dice that the user gave.

    Raises
    ------
    ValueError
        Where there is no case.
    ConfigError
        Where `tolerance` names a class that the dataset does not have.
    """
    if not fingerprint.scans:
        raise ValueError("a plan needs at least one scanned case")
    reasons: dict[str, str] = {}
    spacing = _spacing(fingerprint, reasons)
    shape = _median_shape(fingerprint, spacing)
    limit = min(PATCH_VOXELS, int(memory_gib * 2**30 / (MINIMUM_BATCH * BYTES_PER_VOXEL)))
    strides = _strides(_scaled(shape, limit), spacing)
    patch, window = _patch(shape, strides, limit, reasons)
    features = FEATURES[: len(strides) + 1]
    stem: Triple = (1, 1, 1)
    smallest = _smallest_structure(fingerprint)
    if len(features) == len(FEATURES) and smallest >= SMALL_STRUCTURE_VOXELS:
        stem, strides, features = strides[0], strides[1:], features[:-1]
        reasons["network"] = (
            f"{_levels(features)} behind a stem, which is the first halving, since structures have {smallest:,.0f} "
            f"voxels and more: several times as fast a step as at full resolution (benchmarks/training.py), which a "
            f"budget of {LONG_STEPS:,} such steps or more gets instead"
        )
    else:
        reasons["network"] = (
            f"{_levels(features)}: an axis is halved while it keeps {MINIMUM_EDGE} voxels and is not coarser than "
            f"twice the finest"
        )
    batch = max(MINIMUM_BATCH, min(8, round(BATCH_VOXELS / math.prod(patch))))
    reasons["batch"] = f"{batch} patches of {math.prod(patch):,} voxels each"
    normalisation, ranges, means, stds = _normalisation(dataset, fingerprint, reasons)
    tolerances = _tolerances(dataset, fingerprint, tolerance, reasons)
    return Plan(
        spacing_mm=spacing,
        patch=patch,
        batch=batch,
        normalisation=normalisation,
        intensity_range=ranges,
        intensity_mean=means,
        intensity_std=stds,
        channels=features,
        strides=strides,
        tolerance_mm=tolerances.mm,
        class_tolerance_mm=tolerances.by_class,
        metrics=_metrics(dataset, fingerprint, reasons),
        reasons=reasons,
        stem=stem,
        window=window,
    )


def plan_for_budget(plan: Plan, steps: int) -> Plan:
    """Return the plan for a budget that pays for so many steps of `plan`, which is that of `make_plan`."""
    return budget_plans(plan)[-1] if steps >= LONG_STEPS else plan


def budget_plans(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans of short and of long budgets; without a stem they are one."""
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


def _levels(features: Sequence[int]) -> str:
    return f"{len(features)} levels of {', '.join(map(str, features))} features"


def _smallest_structure(fingerprint: Fingerprint) -> float:
    """Return the median voxels of one connected structure, over cases, of the class where that is least; 0 if none."""
    sizes: dict[int, list[float]] = {}
    for scan in fingerprint.scans:
        for value, item in scan.classes.items():
            if value and item.voxels:
                sizes.setdefault(value, []).append(item.voxels / max(item.components or 1, 1))
    return min((float(np.median(found)) for found in sizes.values()), default=0.0)


def _spacing(fingerprint: Fingerprint, reasons: dict[str, str]) -> tuple[float, float, float]:
    """Return the median spacing; along a very coarse axis the 10th percentile, to keep what thin slices show."""
    spacings = np.asarray([fingerprint.ras(scan)[1] for scan in fingerprint.scans])
    target = np.median(spacings, axis=0)
    reason = "the median of all cases"
    coarse = int(np.argmax(target))
    if target[coarse] > ANISOTROPY * target.min():
        target[coarse] = max(float(np.percentile(spacings[:, coarse], 10)), float(np.delete(target, coarse).max()))
        reason += f", axis {'RAS'[coarse]} at its 10th percentile, since it is over {ANISOTROPY:g} times coarser"
    x, y, z = (float(np.round(edge, 4)) for edge in target)
    reasons["spacing_mm"] = f"{x:g} x {y:g} x {z:g} mm: {reason}"
    return x, y, z


def _median_shape(fingerprint: Fingerprint, spacing: Sequence[float]) -> Triple:
    shapes = [
        [n * edge / target for n, edge, target in zip(*fingerprint.ras(scan), spacing, strict=True)]
        for scan in fingerprint.scans
    ]
    x, y, z = (max(1, round(float(edge))) for edge in np.median(shapes, axis=0))
    return x, y, z


def _strides(shape: Triple, spacing: Sequence[float]) -> tuple[Triple, ...]:
    """Return up to three halvings; coarse axes join when the others have become as coarse."""
    size, edge = [float(min(n, 64)) for n in shape], list(spacing)
    strides: list[Triple] = []
    while len(strides) < len(FEATURES) - 1:
        finest = min(e for e, n in zip(edge, size, strict=True) if n >= 2 * MINIMUM_EDGE or n == max(size))
        x, y, z = (2 if n >= 2 * MINIMUM_EDGE and e <= 2 * finest else 1 for n, e in zip(size, edge, strict=True))
        if x == y == z == 1:
            break
        stride = (x, y, z)
        strides.append(stride)
        size = [n / s for n, s in zip(size, stride, strict=True)]
        edge = [e * s for e, s in zip(edge, stride, strict=True)]
    return tuple(strides) or ((1, 1, 1),)


def _scaled(shape: Triple, limit: int) -> Triple:
    """Return about the largest shape of these proportions within `limit` voxels; thin axes stay as they are."""
    edges = [float(n) for n in shape]
    while math.prod(edges) > limit:
        thick = [axis for axis in range(3) if edges[axis] > 2 * MINIMUM_EDGE]
        if not thick:
            break
        scale = (limit / math.prod(edges)) ** (1 / len(thick))
        for axis in thick:
            edges[axis] = max(2 * MINIMUM_EDGE, edges[axis] * min(scale, 0.999))
    x, y, z = (max(1, round(edge)) for edge in edges)
    return x, y, z


def smaller_memory_gib(plan: Plan) -> float:
    """Return the memory of a run that gives a plan of half the patch."""
    return math.prod(plan.patch) / 2 * MINIMUM_BATCH * BYTES_PER_VOXEL / 2**30


def _patch(
    shape: Triple, strides: Sequence[Triple], limit: int, reasons: dict[str, str]
) -> tuple[Triple, Triple | None]:
    """Return about the median volume where it is small enough, else its shape cut down to `limit` voxels.

    Edges are multiples of the product of the strides. What is cut is always a step off the axis that keeps the largest
    share of the volume, and never so much that fewer than `MINIMUM_EDGE` voxels reach the deepest level. Where nothing
    is cut the second shape is the window that holds the whole volume, and the patch the largest multiple within it that
    keeps `LEAST_SHARE` of each edge: padding costs time and teaches nothing.
    """
    factor = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    edges = [math.ceil(n / f) * f for n, f in zip(shape, factor, strict=True)]
    cut = False
    while math.prod(edges) > limit:
        free = [axis for axis in range(3) if edges[axis] - factor[axis] >= factor[axis] * MINIMUM_EDGE]
        if not free:
            break
        axis = max(free, key=lambda axis: edges[axis] / shape[axis])
        edges[axis] -= factor[axis]
        cut = True
    whole = tuple(edges)
    if not cut:
        below = [n // f * f for n, f in zip(shape, factor, strict=True)]
        edges = [
            b if b >= LEAST_SHARE * n and b >= f * MINIMUM_EDGE else e
            for b, e, n, f in zip(below, edges, shape, factor, strict=True)
        ]
    x, y, z = edges
    median = f"the median volume of {shape[0]} x {shape[1]} x {shape[2]} voxels"
    if cut:
        reasons["patch"] = f"{x} x {y} x {z} has about the proportions, within {limit:,} voxels, of {median}"
    elif whole == (x, y, z):
        reasons["patch"] = f"{x} x {y} x {z} holds {median}"
    else:
        window = " x ".join(map(str, whole))
        reasons["patch"] = f"{x} x {y} x {z} without padding in {median}; predicted at once are {window}"
    return (x, y, z), None if whole == (x, y, z) else (whole[0], whole[1], whole[2])


def _normalisation(
    dataset: Dataset, fingerprint: Fingerprint, reasons: dict[str, str]
) -> tuple[tuple[Normalisation, ...], tuple[tuple[float, float], ...], tuple[float, ...], tuple[float, ...]]:
    kinds: list[Normalisation] = []
    ranges, means, stds, said = [], [], [], []
    for index, name in enumerate(dataset.channels):
        channels = [scan.channels[index] for scan in fingerprint.scans]
        zero = float(np.median([channel.zero_fraction for channel in channels]))
        lows = [c.foreground_percentile_00_5 for c in channels if c.foreground_percentile_00_5 is not None]
        highs = [c.foreground_percentile_99_5 for c in channels if c.foreground_percentile_99_5 is not None]
        inside = [c.foreground_mean for c in channels if c.foreground_mean is not None]
        spread = [c.foreground_std for c in channels if c.foreground_std is not None]
        ranges.append((float(np.median(lows)), float(np.median(highs))) if lows and highs else (0.0, 1.0))
        means.append(float(np.mean(inside)) if inside else 0.0)
        between = float(np.var(inside)) if inside else 0.0
        stds.append(float(np.sqrt(np.mean(np.square(spread)) + between)) if spread else 1.0)
        hounsfield = (
            "ct" in re.split("[^a-z0-9]+", name.lower()) or float(np.median([c.minimum for c in channels])) < -500
        )
        if hounsfield and lows:
            kinds.append("ct")
            said.append(
                f"{name}: Hounsfield units, clipped to {ranges[-1][0]:g}..{ranges[-1][1]:g} as in the foreground"
            )
        elif zero > MOSTLY_ZERO:
            kinds.append("zscore_nonzero")
            said.append(f"{name}: z-score over non-zero voxels, since {zero:.0%} are zero")
        else:
            kinds.append("zscore")
            said.append(f"{name}: z-score of each volume, since intensities have no unit")
    reasons["normalisation"] = "; ".join(said)
    return tuple(kinds), tuple(ranges), tuple(means), tuple(stds)


def _tolerances(
    dataset: Dataset, fingerprint: Fingerprint, asked: ToleranceRequest, reasons: dict[str, str]
) -> Tolerance:
    asked.check(dataset.foreground.values())
    found = asked.resolve(scan.spacing_mm for scan in fingerprint.scans)
    own = "".join(f", {mm:g} mm for {name}" for name, mm in found.by_class.items())
    reason = "the median edge of a pixel in plane" if asked.mm is None else "as given"
    reasons["tolerance_mm"] = f"{found.mm:g} mm for surface Dice: {reason}{own}"
    return found


def _metrics(dataset: Dataset, fingerprint: Fingerprint, reasons: dict[str, str]) -> tuple[str, ...]:
    families = [Family.OVERLAP, Family.HAUSDORFF, Family.SURFACE_AREA, Family.CALIBRATION]
    small, many = [], []
    for value, name in dataset.foreground.items():
        found = [scan.classes[value] for scan in fingerprint.scans if value in scan.classes]
        voxels = [item.voxels for item in found if item.voxels]
        components = [item.components for item in found if item.voxels]
        if voxels and np.median(voxels) < SMALL_STRUCTURE_VOXELS:
            small.append(name)
        if components and np.median(components) > 1:
            many.append(name)
    said = ["overlap and surface distances for every class"]
    if small:
        said.append(
            f"surface metrics matter most for {', '.join(small)} (median below {SMALL_STRUCTURE_VOXELS} voxels)"
        )
    if many:
        families.append(Family.LESIONS)
        said.append(f"lesion-wise scores for {', '.join(many)} (several structures per case)")
    totals = fingerprint.class_voxels()
    said.append(f"imbalance {imbalance_ratio(list(totals.values())):,.0f}:1")
    reasons["metrics"] = "; ".join(said)
    return names_of(*families)
