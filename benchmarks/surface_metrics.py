"""Surface metrics against MONAI: seconds for Hausdorff, 95 % Hausdorff, mean surface distance and surface Dice.

    python benchmarks/surface_metrics.py [MS_LESIONS_FOLDER] [--repeats 3]

Both sides get the same masks in the same process and one thread: real lesion masks (182×218×182, each with a perturbed
copy as prediction) and a label map of 41 classes. MONAI's four metrics are called as its users do, one after another
on tensors that are prepared before the clock starts; segloss computes the four in one call.

Values are compared with the tools whose definition they follow: Hausdorff distances with MONAI, mean surface distance
and surface Dice, which weight by area, with DeepMind's surface-distance. How far counting voxels (MONAI) is from
weighting by area is printed too.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import monai
import nibabel as nib
import numpy as np
import scipy
import torch
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import KDTree
from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.tolerance import Tolerance

SHAPE = (182, 218, 182)
CLASSES = 41
BY_VOXEL = ("hausdorff_mm", "hausdorff95_mm")
BY_AREA = ("assd_mm", "nsd")
METRICS = (*BY_VOXEL, *BY_AREA)
TOLERANCE_MM = 1.0
BAR = 4.0

Values = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the speed of surface metrics with MONAI's.")
    lesions = Path(__file__).resolve().parents[2] / "shared" / "data" / "ms_lesions"
    parser.add_argument("lesions", nargs="?", type=Path, default=lesions, help="folder of patients with lesions.nii.gz")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(f"{processor()}, one thread; Python {platform.python_version()}, MONAI {monai.__version__}, "
          f"torch {torch.__version__}, scipy {scipy.__version__}, numpy {np.__version__}")  # fmt: skip
    print(f"median of {options.repeats}, seconds\n")
    print("| masks | classes | MONAI, four calls | segloss, one call | ratio | apart | counting: mean distance | nsd |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, rows = [], []
    for name, reference, prediction, spacing, classes in cases(options.lesions):
        theirs, expected = timed(monai_side(reference, prediction, spacing, classes), options.repeats)
        ours, found = timed(our_side(reference, prediction, spacing, classes), options.repeats)
        areas = deepmind_side(reference, prediction, spacing, classes)
        apart = max(
            *(float(np.abs(found[metric] - expected[metric]).max()) for metric in BY_VOXEL),
            *(float(np.abs(found[metric] - areas[metric]).max()) for metric in BY_AREA),
        )
        counting = [float(np.abs(found[metric] - expected[metric]).max()) for metric in BY_AREA]
        ratios.append(theirs / ours)
        row = {"what": f"four surface metrics, seconds: {name}", "segloss": f"{ours:.2f}", "other": f"{theirs:.2f}"}
        rows.append(row | {"ratio": f"{theirs / ours:.1f}", "bar": f"{BAR:g} times", "met": theirs / ours >= BAR})
        print(
            f"| {name} | {len(classes)} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.1f} | {apart:.1e} "
            f"| {counting[0]:.3f} mm | {counting[1]:.3f} |",
            flush=True,
        )
        if apart > 1e-3:
            raise SystemExit("values differ from those of MONAI or of surface-distance")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    print(f"\nsmallest ratio {min(ratios):.1f}, bar {BAR:g}: {'met' if min(ratios) >= BAR else 'MISSED'}")
    raise SystemExit(min(ratios) < BAR and not options.json)


def cases(lesions: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...], list[int]]]:
    """Yield name, reference, prediction, spacing in mm and the classes that both hold."""
    for path in sorted(lesions.glob("*/lesions.nii.gz")):
        image = nib.load(path)
        reference = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
        spacing = tuple(float(edge) for edge in image.header.get_zooms()[:3])
        yield f"lesions {path.parent.name}", reference, perturbed(reference), spacing, [1]
    reference = regions()
    prediction = perturbed(reference)
    both = [value for value in range(1, CLASSES + 1) if (reference == value).any() and (prediction == value).any()]
    yield "label map", reference, prediction, (1.0, 1.0, 1.0), both


def perturbed(labels: np.ndarray) -> np.ndarray:
    """Return labels (X, Y, Z) warped smoothly by about two voxels, as a network misses borders."""
    random = np.random.default_rng(0)
    noise = [gaussian_filter(random.normal(size=labels.shape).astype(np.float32), 4) for _ in range(3)]
    where = [
        axis + 2 * part / part.std()
        for axis, part in zip(np.indices(labels.shape, dtype=np.float32), noise, strict=True)
    ]
    return map_coordinates(labels, where, order=0)


def regions() -> np.ndarray:
    """Return a map (X, Y, Z) of 41 touching regions in a background, each the points nearest to one seed."""
    random = np.random.default_rng(0)
    seeds = random.uniform(0.1, 0.9, (CLASSES, 3)) * SHAPE
    distance, nearest = KDTree(seeds).query(np.indices(SHAPE, dtype=np.float32).reshape(3, -1).T)
    return np.where(distance < 38, nearest + 1, 0).astype(np.uint8).reshape(SHAPE)


def monai_side(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], classes: list[int]
) -> Callable[[], Values]:
    """Return the call of MONAI's four metrics on (1, C, X, Y, Z)."""
    y, y_pred = (
        torch.from_numpy(np.stack([labels == value for value in classes])[None].astype(np.uint8))
        for labels in (reference, prediction)
    )

    def call() -> Values:
        metrics = {
            "hausdorff_mm": HausdorffDistanceMetric(include_background=True),
            "hausdorff95_mm": HausdorffDistanceMetric(include_background=True, percentile=95),
            "assd_mm": SurfaceDistanceMetric(include_background=True, symmetric=True),
            "nsd": SurfaceDiceMetric([TOLERANCE_MM] * len(classes), include_background=True),
        }
        return {name: metric(y_pred=y_pred, y=y, spacing=spacing).numpy()[0] for name, metric in metrics.items()}

    return call


def our_side(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], classes: list[int]
) -> Callable[[], Values]:
    """Return the call of the panel for the same four."""

    def call() -> Values:
        names = {value: str(value) for value in classes}
        tolerance = Tolerance(TOLERANCE_MM)
        scores = evaluate_case("case", reference, prediction, spacing, PanelSettings(names, tolerance, METRICS))
        return {metric: np.array([score.value for score in scores if score.metric == metric]) for metric in METRICS}

    return call


def deepmind_side(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], classes: list[int]
) -> Values:
    """Return mean surface distance and surface Dice by DeepMind's surface-distance, the former over both surfaces."""
    found: dict[str, list[float]] = {metric: [] for metric in BY_AREA}
    for value in classes:
        elements = compute_surface_distances(reference == value, prediction == value, spacing)
        ways = [
            (elements["distances_gt_to_pred"], elements["surfel_areas_gt"]),
            (elements["distances_pred_to_gt"], elements["surfel_areas_pred"]),
        ]
        total = sum(float(areas.sum()) for _, areas in ways)
        found["assd_mm"].append(sum(float(distances @ areas) for distances, areas in ways) / total)
        found["nsd"].append(compute_surface_dice_at_tolerance(elements, TOLERANCE_MM))
    return {metric: np.array(values) for metric, values in found.items()}


def timed(call: Callable[[], Values], repeats: int) -> tuple[float, Values]:
    """Return the median seconds of some calls and the result of the last."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
