"""Cost of the MLflow mirror for a training: a small study with a database, with a dead server, and without a mirror.

    python benchmarks/mlflow_overhead.py DATASET [--steps 120] [--repeats 1]

Prints one line: the sum of the training times (`training_seconds` of every run) in seconds, and their difference from
the study without a mirror in percent. Studies are interleaved, one run at a time, without a learning-rate search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DEAD = "http://127.0.0.1:9"


def training_seconds(dataset: Path, steps: int, folder: Path, *options: str, uri: str | None = None) -> float:
    """Run a study of one loss and two folds and return the sum of its training times in seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_TRACKING_URI": uri} if uri else {}
    command = [sys.executable, "-m", "pipeline", "study", str(dataset), "--out", str(folder), "--losses", "dice"]
    command += ["--folds", "2", "--budget", f"{steps}steps", "--learning-rates", "0.004", "--jobs", "1", *options]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    records = [json.loads(path.read_text()) for path in folder.glob("runs/*/*/run.json")]
    return float(sum(record["training_seconds"] for record in records))


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    kinds: dict[str, tuple[tuple[str, ...], str | None]] = {
        "without": (("--no-track",), None),
        "SQLite": ((), None),
        "dead server": ((), DEAD),
    }
    seconds = dict.fromkeys(kinds, 0.0)
    with tempfile.TemporaryDirectory() as root:
        for repeat in range(arguments.repeats):
            for kind, (options, uri) in kinds.items():
                folder = Path(root) / f"{kind} {repeat}"
                seconds[kind] += training_seconds(arguments.dataset, arguments.steps, folder, *options, uri=uri)
    ratios = ", ".join(f"{kind} {s:.1f} s ({100 * (s / seconds['without'] - 1):+.1f} %)" for kind, s in seconds.items())
    print(f"{arguments.repeats} x 2 trainings of {arguments.steps} steps: {ratios}")


if __name__ == "__main__":
    main()
