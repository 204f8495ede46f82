"""Pools of processes that end with the process that started them."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from pipeline.system.operating_system import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk_size: int = 1
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, in this process where `workers` is at most 1.

    Parameters
    ----------
    function
        Must be picklable, e.g. a function of a module or a `functools.partial` of one.
    items
        Picklable arguments.
    workers
        Number of processes.
    chunk_size
        Items that one process receives at a time.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        A process was killed, usually since memory ran out.

    Examples
    --------
    >>> list(map_in_processes(abs, [-1, 2], workers=1))
    [1, 2]
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(function, items, chunksize=chunk_size)


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes; an error or a signal inside the block ends them at once.

    Parameters
    ----------
    workers
        Number of processes.
    initializer, arguments
        A function that each process calls before its first task, with its arguments.
    """
    # Not forked: a fork copies the locks of torch's and OpenBLAS's threads in whatever state they are, and CUDA refuses
    # to work in a forked process.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(), initializer, arguments),
    )
    try:
        yield pool
    except BaseException:
        # shutdown() alone would wait for the tasks that are running, which may take hours. There is no public list of
        # the processes.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker(parent: int, initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Tie this process to its parent, leave Ctrl-C to the parent, and call the initializer."""
    # Without this, a worker would outlive a parent that was killed by SIGKILL, and go on writing to the files that the
    # next process already continues. Linux ends it with the thread that started it, so a pool must get its first task
    # from a thread that lives as long as the pool.
    end_with_parent(parent)
    # A terminal sends Ctrl-C to all processes of the group. The parent decides how the pool ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*arguments)
