"""Count how many displaced references a study detects, and how many references in place it suspects.

    whichloss study ../shared/data/hippocampus --losses dice,dice_ce,weighted_ce --budget 300steps --out STUDY
    python benchmarks/displaced_references.py STUDY

Each reference of a finished study is moved in a random direction, by 0 to 3 voxels along the axis with the longest
step, and checked against the out-of-fold predictions of all losses. References that are suspected without having been
moved are printed with a measure from the image alone: the standard deviation of intensities inside the structures,
which a displaced label makes larger. It is given before and after the change, and for the best of all shifts of up to 2
voxels.
"""

import argparse
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

from pipeline.comparison.evidence import read_evidence
from pipeline.records.folder import StudyFolder
from pipeline.references.changes import Change, suspected_change
from pipeline.references.volumes import Volume

LONGEST_SHIFT = 3
SEARCHED_SHIFT = 2
OUTCOMES = ("suspected", "found exactly", "within a voxel along each axis")


def main() -> None:
    """Print a line for each length of the shift, and one for each reference that is suspected without a shift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    evidence = read_evidence(StudyFolder(parser.parse_args().study))
    volumes = evidence.volumes
    paired = evidence.paired["dice"]
    random = np.random.default_rng(0)
    found: Counter[tuple[int, str]] = Counter()
    for case in paired.cases:
        volume = volumes.volume(case)
        if volume is None:
            raise SystemExit(f"{case}: the image or label cannot be read; restore it")
        predictions = list(volumes.predictions(paired.losses, case, volume.reference.shape).values())
        for most in range(LONGEST_SHIFT + 1):
            shift = direction(random, most)
            moved = Change("moved", shift).applied_to(volume.reference)
            suspicion = suspected_change(moved, predictions, volume.spacing_mm)
            if suspicion is None:
                continue
            left = np.abs(np.add(shift, suspicion.change.shift))
            found[most, "suspected"] += 1
            found[most, "found exactly"] += suspicion.change.kind == "moved" and not left.any()
            found[most, "within a voxel along each axis"] += suspicion.change.kind == "moved" and left.max() <= 1
            if not most:
                print(f"{case}: {suspicion.change}, {inside(volume, suspicion.change)}", flush=True)
    for most in range(LONGEST_SHIFT + 1):
        counts = ", ".join(f"{found[most, what]} {what}" for what in OUTCOMES)
        print(f"{len(paired.cases)} references moved by {most} voxels: {counts}")


def direction(random: np.random.Generator, most: int) -> tuple[int, int, int]:
    """Return a random shift whose largest step is `most` voxels."""
    while True:
        i, j, k = (int(step) for step in random.integers(-most, most + 1, 3))
        if max(abs(i), abs(j), abs(k)) == most:
            return i, j, k


def inside(volume: Volume, change: Change) -> str:
    """Return how homogeneous the structures are before and after a change, by the image alone."""

    def deviation(change: Change) -> float:
        return float(volume.image[change.applied_to(volume.reference) > 0].std() / volume.image.std())

    shifts = [Change("moved", shift) for shift in product(range(-SEARCHED_SHIFT, SEARCHED_SHIFT + 1), repeat=3)]
    smallest = min(shifts, key=deviation)
    deviations = f"{deviation(Change('moved')):.3f}, after it {deviation(change):.3f}"
    return f"standard deviation inside {deviations}, smallest {deviation(smallest):.3f} at {smallest.shift}"


if __name__ == "__main__":
    main()
