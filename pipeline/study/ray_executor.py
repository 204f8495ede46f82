"""Carrying out runs as Ray tasks, on one machine or many that share the study's folder."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, TrainingError
from pipeline.records.folder import RunFolder, RunKey
from pipeline.training.run import RunSettings, run

RETRIES = 3
"""How often a run is given to another worker where its own was lost; it continues from its last checkpoint."""

POLL_S = 0.5


def run_on_ray(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    jobs: int,
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
    *,
    address: str | None = None,
) -> None:
    """Carry out the runs as Ray tasks, at most `jobs` at once where there is no cluster, else as many as it holds.

    Parameters
    ----------
    runs, on_step, on_done, wanted
        As for `pipeline.study.executor.run_locally`.
    jobs
        Runs at once on this machine where `address` is None.
    address
        Of a cluster, e.g. ``auto`` or ``ray://host:10001``. The dataset, the cache and the study must lie at the same
        paths on every node (a shared file system).

    Raises
    ------
    ConfigError
        Where Ray is not installed or the cluster does not answer.
    TrainingError
        Where a run failed on every worker it was given to. The same command continues.
    """
    if not runs:
        return
    ray = _connected(address, jobs * runs[0][0].threads)
    progress = ray.remote(_Progress).options(num_cpus=0).remote()
    task = ray.remote(_carry_out)
    waiting = list(runs)
    going: dict[Any, RunKey] = {}
    try:
        while waiting or going:
            while waiting and len(going) < (jobs if address is None else _capacity(ray, waiting[0][0])):
                settings, folder = waiting.pop(0)
                if wanted(folder.key):
                    resources = {"num_cpus": settings.threads, "num_gpus": int(settings.device == "cuda")}
                    reference = task.options(max_retries=RETRIES, **resources).remote(
                        settings, folder.key, str(folder.root), progress
                    )
                    going[reference] = folder.key
            if not going:
                break
            finished, _ = ray.wait(list(going), timeout=POLL_S)
            for key, stage, done, of in ray.get(progress.take.remote()):
                on_step(key, stage, done, of)
            for reference in finished:
                key = going.pop(reference)
                try:
                    ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, MemoryError) as error:
                    raise TrainingError(
                        key.short_name, f"was lost with its worker {RETRIES + 1} times", "call again; it continues"
                    ) from error
                on_done(key)
    finally:
        for reference in going:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _connected(address: str | None, cores: int) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--executor ray", "needs Ray", "pip install 'segloss[ray]'") from error
    try:
        if address is None:
            ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--address {address}", f"is no Ray cluster that answers ({reason})", "check it") from error
    return ray


def _capacity(ray: Any, settings: RunSettings) -> int:
    """Return how many such runs the cluster holds at once, by its nodes of this moment."""
    resources = ray.cluster_resources()
    by_cores = int(resources.get("CPU", 0)) // settings.threads
    return max(1, int(resources.get("GPU", 0)) if settings.device == "cuda" else by_cores)


class _Progress:
    """Gathers how far each run is until the driver takes it."""

    def __init__(self) -> None:
        self.last: dict[RunKey, tuple[str, int, int]] = {}

    def tell(self, key: RunKey, stage: str, done: int, of: int) -> None:
        self.last[key] = (stage, done, of)

    def take(self) -> list[tuple[RunKey, str, int, int]]:
        taken = [(key, *how) for key, how in self.last.items()]
        self.last = {}
        return taken


def _carry_out(settings: RunSettings, key: RunKey, root: str, progress: Any) -> None:
    last = 0.0

    def on_step(stage: str, done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > POLL_S or done == of:
            last = now
            progress.tell.remote(key, stage, done, of)

    run(settings, RunFolder(Path(root), key), on_step)
