"""What a GPU gains: one training against the plain loop on the same GPU, and several runs at once.

    python benchmarks/gpu.py ../shared/data/hippocampus --loop ../shared/baselines/monai_loop.py [--repeats 3]

The trainings are those of ``training.py``. Steps a second of one, two and four runs at once are those of the trial that
chooses how many a study has; utilisation is what ``nvidia-smi`` says every second while our trainings run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from training import compare, device


def main() -> None:
    """Print a table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--loop", type=Path, help="the plain loop's script")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.minutes = None
    if device().type != "cuda":
        raise SystemExit("no GPU here: nothing to measure")
    result = compare(arguments)
    for found in result["rows"]:
        found["what"] += f", {name()}"
    show(result, arguments.json)
    result["rows"].append(several_at_once(arguments.dataset))
    show(result, arguments.json)


def show(result: dict[str, Any], path: Path | None) -> None:
    """Print the rows, and write all that is measured so far."""
    for row in result["rows"]:
        print(f"{row['what']:80} {row['segloss']:>22} {row['other']:>10} {row['ratio']:>8}", flush=True)
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def name() -> str:
    """Return the GPU's name."""
    import torch

    return torch.cuda.get_device_name()


def several_at_once(folder: Path) -> dict[str, Any]:
    """Return a row of the steps a second of one, two and four runs on one GPU, at full resolution."""
    from pipeline.data.datalists import read_dataset
    from pipeline.data.planning import budget_plans, make_plan
    from pipeline.data.scan import scan_dataset
    from pipeline.study.machine import RUNS_A_GPU, trial
    from pipeline.study.workers import Workers, on_a_gpu

    found = scan_dataset(read_dataset(folder))
    plan = budget_plans(make_plan(found.dataset, found.fingerprint))[-1]
    task = partial(trial, plan, len(found.dataset.classes), 1, "cuda", "float32")
    rates, used = [], []
    with Workers() as workers:
        workers.begin(max(RUNS_A_GPU))
        with workers.pool(max(RUNS_A_GPU)) as pool:
            for jobs in RUNS_A_GPU:
                [future.result() for future in [pool.submit(on_a_gpu, task) for _ in range(jobs)]]  # warm
                with utilisation() as percents:
                    done = [future.result() for future in [pool.submit(on_a_gpu, task) for _ in range(jobs)]]
                rates.append(jobs / max(step_seconds for _, _, step_seconds in done))
                used.append(statistics.mean(percents) if percents else None)
    print(f"utilisation, %: {used}", file=sys.stderr)
    return {
        "what": f"steps a second of {', '.join(map(str, RUNS_A_GPU))} runs at once, {name()}",
        "segloss": " / ".join(f"{rate:.0f}" for rate in rates),
        "other": "",
        "ratio": f"{max(rates) / rates[0]:.2f}",
        "bar": "",
        "met": True,
    }


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Give a list that holds, afterwards, the GPU's utilisation in per cent, twice a second."""
    found: list[float] = []
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield found
        process.terminate()
        assert process.stdout is not None
        found += [float(line) for line in process.stdout if line.strip()]


if __name__ == "__main__":
    main()
