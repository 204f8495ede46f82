"""What a GPU gains: one training against the plain loop on the same GPU, and several runs at once.

    python benchmarks/gpu.py ../shared/data/hippocampus [--loop ../shared/baselines/monai_loop.py [--repeats 3]]

With a loop the first: the trainings are those of ``training.py``. Without it the second: steps a second of one, two and
four runs are those of the trial that chooses how many a study has; utilisation is what ``nvidia-smi`` says twice a
second of that.
"""

import argparse
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from training import compare, device, gpu_name, planned, show


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
    if arguments.loop:
        result = compare(arguments)
        for found in result["rows"]:
            found["what"] += f", {gpu_name()}"
    else:
        result = several_at_once(arguments.dataset)
    show(result, arguments.json)


def several_at_once(folder: Path) -> dict[str, Any]:
    """Return a row of the steps a second of one, two and four runs on one GPU, at full resolution, and utilisation."""
    from pipeline.data.planning import budget_plans
    from pipeline.study.executors.reusable_pool import ReusablePool
    from pipeline.study.machine import RUNS_PER_GPU, Workload, at_once, time_steps
    from pipeline.training.recipe import Recipe

    dataset, _, plan = planned(folder)
    task = partial(time_steps, Workload(budget_plans(plan)[-1], len(dataset.classes), Recipe()), 1, "cuda", "float32")
    rates, used = [], {}
    with ReusablePool() as workers:
        workers.start(max(RUNS_PER_GPU))
        with workers.processes(max(RUNS_PER_GPU)) as pool:
            for jobs in RUNS_PER_GPU:
                at_once(pool, task, jobs)  # warm
                with utilisation() as percents:
                    done = at_once(pool, task, jobs)
                rates.append(jobs / max(step_seconds for _, _, step_seconds in done))
                used[str(jobs)] = statistics.mean(percents) if percents else None
    row = {
        "what": f"steps a second of {', '.join(map(str, RUNS_PER_GPU))} runs at once, {gpu_name()}",
        "segloss": " / ".join(f"{rate:.0f}" for rate in rates),
        "other": "",
        "ratio": f"{max(rates) / rates[0]:.2f}",
        "bar": "",
        "met": True,
    }
    return {"rows": [row], "measured": {"utilisation_percent": used}}


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Give a list that holds, afterwards, the GPU's utilisation in per cent, twice a second."""
    found: list[float] = []
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield found
        finally:
            process.terminate()
        assert process.stdout is not None
        found += [float(line) for line in process.stdout if line.strip()]


if __name__ == "__main__":
    main()
