"""How many displaced references a study finds, and how many it suspects without a reason.

    segloss study ../shared/data/hippocampus --losses dice,dice_ce,weighted_ce --budget 300steps --out STUDY
    python benchmarks/displaced_references.py STUDY

Each reference of a finished study is moved in a random direction, by 1 to 3 voxels along the axis it is moved most, and
checked against what all losses predicted out of fold. As they are, suspected ones are printed with what the image
alone says: the standard deviation of its intensities inside the structures, which a displaced label makes larger, now
and after the change, and at which of all shifts of up to 2 voxels it is smallest.
"""

import argparse
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

from pipeline.comparison.evidence import read_evidence
from pipeline.records.folder import StudyFolder
from pipeline.references.changes import Change, suspected_change
from pipeline.references.volumes import Volume, Volumes

MOST = 3
REACH = 2
WHAT = ("suspected", "found exactly", "within a voxel along each axis")


def main() -> None:
    """Print one line for each number of voxels, and one for each reference that is suspected as it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    evidence = read_evidence(StudyFolder(parser.parse_args().study))
    volumes = Volumes(evidence)
    paired = evidence.paired["dice"]
    random = np.random.default_rng(0)
    found: Counter[tuple[int, str]] = Counter()
    for case in paired.cases:
        volume = volumes.volume(case)
        if volume is None:
            raise SystemExit(f"{case}: its image or label is gone")
        predictions = list(volumes.predictions(paired.losses, case, volume.reference.shape).values())
        for most in range(MOST + 1):
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
    for most in range(MOST + 1):
        counts = ", ".join(f"{found[most, what]} {what}" for what in WHAT)
        print(f"{len(paired.cases)} references moved by {most} voxels: {counts}")


def direction(random: np.random.Generator, most: int) -> tuple[int, int, int]:
    """Return a random shift whose largest step is `most` voxels."""
    while True:
        i, j, k = (int(step) for step in random.integers(-most, most + 1, 3))
        if max(abs(i), abs(j), abs(k)) == most:
            return i, j, k


def inside(volume: Volume, change: Change) -> str:
    """Return what the image says of a change, without any network."""

    def deviation(change: Change) -> float:
        return float(volume.image[change.applied_to(volume.reference) > 0].std() / volume.image.std())

    shifts = [Change("moved", shift) for shift in product(range(-REACH, REACH + 1), repeat=3)]
    smallest = min(shifts, key=deviation)
    deviations = f"{deviation(Change('moved')):.3f}, after it {deviation(change):.3f}"
    return f"standard deviation inside {deviations}, smallest {deviation(smallest):.3f} at {smallest.shift}"


if __name__ == "__main__":
    main()
