"""Time of `whichloss inspect` as a user runs it, and cases per second and core.

    python benchmarks/inspect_dataset.py DATASET [--repeats 3]

Prints one line: the median over the repeats of the whole command, from the start of Python to the end of its output.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pipeline.system.operating_system import available_cores


def main() -> None:
    """Time the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pipeline", "inspect", arguments.dataset, "--json"]
    seconds, cases = [], 0
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
        cases = json.loads(done.stdout)["cases"]
    median, cores = statistics.median(seconds), available_cores()
    rate = cases / median / cores
    if arguments.json:
        row = {"what": f"`inspect` of {cases} cases, start included, seconds", "segloss": f"{median:.1f}"}
        row |= {"other": "", "ratio": "", "bar": "10 s", "met": median <= 10}
        arguments.json.write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    print(f"{cases} cases in {median:.1f} s on {cores} cores: {rate:.0f} cases a second and core")


if __name__ == "__main__":
    main()
