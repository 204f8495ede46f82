"""Measure how the cost of a study grows with losses and folds: seconds of `whichloss study` on phantoms.

    python benchmarks/arms.py [--steps 20] [--json FILE]

Every study is new and includes the start of Python and the preparation. The script fits a straight line to the seconds
over the number of runs, and prints its largest relative deviation. If the cost is linear, the deviation is small.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.data.phantoms import make_phantoms

LOSSES = (
    "ce", "weighted_ce", "dice", "dice_squared", "dice_ce", "focal", "tversky", "jaccard", "generalized_dice",
    "dice_focal", "focal_tversky", "log_cosh_dice",
)  # fmt: skip
STUDIES = ((3, 2), (6, 2), (12, 2), (3, 4))
"""Losses and folds."""

SHAPE = (24, 24, 20)
"""Shape of the phantoms in voxels; small, since only the growth of the cost matters."""


def main() -> None:
    """Time the studies and print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_phantoms(Path(folder) / "phantoms", 16, seed=0, foreground_fraction=0.06, shape=SHAPE)
        for losses, folds in STUDIES:
            seconds[losses, folds] = study_seconds(Path(folder), losses, folds, arguments.steps)
            runs = losses * folds
            print(f"{losses} losses x {folds} folds: {seconds[losses, folds]:.0f} s, {runs} runs", flush=True)
    runs = np.asarray([losses * folds for losses, folds in seconds])
    measured = np.asarray(list(seconds.values()))
    slope, start = np.polyfit(runs, measured, 1)
    deviation = float(np.abs(measured / (start + slope * runs) - 1).max())
    print(f"{start:.0f} s and {slope:.1f} s per run; deviation from the line at most {deviation:.1%}")
    if arguments.json:
        shown = ", ".join(f"{losses} x {folds}: {value:.0f}" for (losses, folds), value in seconds.items())
        row = {"what": f"seconds of a study, losses x folds: {shown}; deviation from a straight line", "other": ""}
        row |= {"segloss": f"{deviation:.1%}", "ratio": "", "bar": "10 %", "met": deviation <= 0.1}
        arguments.json.write_text(json.dumps({"rows": [row]}), encoding="utf-8")


def study_seconds(folder: Path, losses: int, folds: int, steps: int) -> float:
    """Return the seconds of one new study."""
    command = [sys.executable, "-m", "pipeline", "study", str(folder / "phantoms")]
    command += ["--losses", ",".join(LOSSES[:losses]), "--folds", str(folds), "--budget", f"{steps}steps"]
    command += ["--learning-rates", "0.003", "--out", str(folder / f"study{losses}x{folds}")]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # 1: the study finished, but a run of so few steps collapsed
        raise SystemExit(done.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
