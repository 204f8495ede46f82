"""Time and memory of the driver of a study on Ray: very many runs that do nothing, each with its list of cases.

    python benchmarks/ray_driver.py [--runs 1000] [--cases 2000] [--workers 2]

Prints runs per second, processor time and peak memory of the driver, and the bytes that each run sends to its worker.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from pipeline.data.dataset import Case
from pipeline.losses import LossSpec
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.tolerance import Tolerance
from pipeline.study.executors.executor import ScheduledRun
from pipeline.study.executors.ray import RayExecutor
from pipeline.trainers.engine import EngineTrainer
from pipeline.trainers.trainer import Run
from pipeline.training.preparation import PreparedCase


class Counter:
    """A monitor that counts finished runs."""

    def __init__(self) -> None:
        self.runs = 0

    def is_needed(self, key: RunKey) -> bool:
        """Return True: every run is needed."""
        return True

    def run_step(self, key: RunKey, stage: str, done: int, total: int) -> None:
        """Do nothing."""

    def run_finished(self, key: RunKey) -> None:
        """Count a run."""
        self.runs += 1

    def message(self, text: str) -> None:
        """Print a line."""
        print(text)


def main() -> None:
    """Print two lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    def does_nothing(scheduled: ScheduledRun, progress: object, at: str) -> None:
        scheduled.folder.root.mkdir(parents=True, exist_ok=True)
        scheduled.folder.record.write_text("{}")

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        affine = tuple(tuple(float(i == j) for i in range(4)) for j in range(4))
        cases = [
            PreparedCase(f"case_{i:06d}", root / f"{i:032x}", (35, 50, 36), affine) for i in range(arguments.cases)
        ]
        cases[0].folder.mkdir()
        (root / "image").touch()
        originals = [Case(case.id, (root / "image",), root / "label", case.id) for case in cases]
        training, held_out = tuple(originals[: len(cases) * 4 // 5]), tuple(originals[len(cases) * 4 // 5 :])
        # No plan is needed: the task of this benchmark does nothing.
        trainer = EngineTrainer(None, {case.id: case for case in cases}, 100, "float32", (0.01,), 1, "cpu", True)  # type: ignore[arg-type]
        keys = [RunKey("dice", fold, seed) for seed in range(arguments.runs // 5) for fold in range(5)]
        folders = [RunFolder(root / "runs" / "dice" / f"fold{key.fold}_seed{key.seed}", key) for key in keys]
        loss, tolerance = LossSpec("dice"), Tolerance(1.0)
        runs = [
            ScheduledRun(trainer, Run(folder, loss, {1: "a"}, (9, 1), training, held_out, tolerance))
            for folder in folders
        ]
        (root / "runs").mkdir()
        import ray.cloudpickle

        travels = len(ray.cloudpickle.dumps(runs[0]))
        monitor = Counter()
        start, before = time.perf_counter(), time.process_time()
        RayExecutor(arguments.workers, task=does_nothing).execute(runs, monitor)
        seconds, own = time.perf_counter() - start, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{monitor.runs} runs in {seconds:.1f} s, {1000 * own / monitor.runs:.1f} ms of driver processor time each")
    print(f"{travels / 1e6:.2f} MB sent with each run, {travels / len(cases):.0f} bytes per case; peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
