"""Time `whichloss compare` as a user runs it: 20 losses x 200 cases x 3 metrics, 5 folds, optionally with thresholds.

    python benchmarks/compare.py [--losses 20] [--cases 200] [--seeds 1] [--thresholds]

Prints one line for each measurement: the whole command, from the start of Python to the end of its output. The target
is 20 s.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

METRICS = {"dice": (0.85, 0.05), "hausdorff95_mm": (6.0, 2.0), "nsd": (0.9, 0.04)}
FOLDS = 5
GRID = np.round(np.arange(0.05, 0.96, 0.05), 2)


def results(losses: int, cases: int, seeds: int) -> pd.DataFrame:
    """Return a long table of simulated results with noise of cases and of trainings."""
    random = np.random.default_rng(0)
    index = np.arange(cases)
    parts = []
    for metric, (mean, spread) in METRICS.items():
        difficulty = mean + spread * random.standard_normal(cases)
        for loss in range(losses):
            for seed in range(seeds):
                trained = 0.1 * spread * random.standard_normal(FOLDS)[index % FOLDS]
                value = difficulty + 0.02 * spread * loss + trained + 0.3 * spread * random.standard_normal(cases)
                frame = pd.DataFrame({"case": index, "fold": index % FOLDS, "value": value})
                parts.append(frame.assign(loss=f"loss{loss:02d}", seed=seed, metric=metric, state="ok"))
    table = pd.concat(parts, ignore_index=True)
    table["class"] = "organ"
    table["case"] = "case" + table["case"].astype(str)
    return table


def at_thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """Return Dice at each threshold; the best threshold differs between losses."""
    rows = table[table["metric"] == "dice"]
    peak = 0.3 + 0.02 * rows["loss"].str[4:].astype(float).to_numpy()
    frames = [rows.assign(threshold=level, dice=rows["value"].to_numpy() - 0.3 * (level - peak) ** 2) for level in GRID]
    columns = ["loss", "fold", "seed", "case", "class", "threshold", "dice"]
    return pd.concat(frames, ignore_index=True)[columns]


def seconds(arguments: list[str]) -> float:
    """Return the seconds of one run of `whichloss compare`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", "compare", *arguments, "--json"], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Run the command on simulated tables and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=20)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--thresholds", action="store_true", help="also measure with a table of thresholds")
    arguments = parser.parse_args()
    table = results(arguments.losses, arguments.cases, arguments.seeds)
    size = f"{arguments.losses} losses x {arguments.cases} cases x {len(METRICS)} metrics x {arguments.seeds} seed(s)"
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.csv"
        table.to_csv(cases, index=False)
        print(f"{size}: {seconds([str(cases)]):.1f} s")
        if arguments.thresholds:
            levels = Path(folder) / "thresholds.csv"
            at_thresholds(table).to_csv(levels, index=False)
            print(f"{size}, with {GRID.size} thresholds: {seconds([str(cases), '--thresholds', str(levels)]):.1f} s")


if __name__ == "__main__":
    main()
