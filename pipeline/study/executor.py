"""Carrying out runs in processes of this machine, several at once."""

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from pipeline.errors import TrainingError
from pipeline.records.folder import RunFolder, RunKey
from pipeline.training.run import RunSettings, run

_messages: "multiprocessing.Queue[tuple[RunKey, str, int, int]] | None" = None


def run_locally(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    jobs: int,
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
) -> None:
    """Carry out the runs in `jobs` processes, in order; progress is reported as (run, stage, parts done, parts in all).

    A run that is not `wanted` when its turn comes is left out.

    Raises
    ------
    TrainingError
        Where a worker process died, e.g. killed for want of memory. The same command continues.
    """
    context = get_context("spawn")
    messages = context.Queue()
    waiting = list(runs)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(messages,))
    going: dict[Future[None], RunKey] = {}
    try:
        while waiting or going:
            while waiting and len(going) < jobs:
                settings, folder = waiting.pop(0)
                if not wanted(folder.key):
                    continue
                going[pool.submit(_run, settings, folder)] = folder.key
            if not going:
                break
            finished, _ = wait(going, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(messages, on_step)
            for future in finished:
                key = going.pop(future)
                future.result()
                on_done(key)
    except BrokenProcessPool as error:
        names = ", ".join(key.short_name for key in going.values()) or "a run"
        raise TrainingError(
            names,
            "a worker process died, most likely for want of memory",
            "give --jobs 1 or a smaller --patch; it continues",
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            if waiting or going:
                process.terminate()
        pool.shutdown(wait=not (waiting or going), cancel_futures=True)


def run_here(
    runs: Sequence[tuple[RunSettings, RunFolder]],
    on_step: Callable[[RunKey, str, int, int], None],
    on_done: Callable[[RunKey], None],
    wanted: Callable[[RunKey], bool] = lambda key: True,
) -> None:
    """Carry out the runs in this process, as `run_locally` does in others."""
    for settings, folder in runs:
        if wanted(folder.key):
            run(settings, folder, lambda stage, done, of, key=folder.key: on_step(key, stage, done, of))  # type: ignore[misc]
            on_done(folder.key)


def _drain(
    messages: "multiprocessing.Queue[tuple[RunKey, str, int, int]]", on_step: Callable[[RunKey, str, int, int], None]
) -> None:
    while True:
        try:
            on_step(*messages.get_nowait())
        except queue.Empty:
            return


def _begin(messages: "multiprocessing.Queue[tuple[RunKey, str, int, int]]") -> None:
    global _messages
    _messages = messages


def _run(settings: RunSettings, folder: RunFolder) -> None:
    def on_step(stage: str, done: int, of: int) -> None:
        if _messages is not None and (done % 5 == 0 or done == of):
            _messages.put((folder.key, stage, done, of))

    run(settings, folder, on_step)
