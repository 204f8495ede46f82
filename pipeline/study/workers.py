"""Processes of this machine that time it first and train then: what they import, seconds each, is paid once."""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import Any, TypeVar

from pipeline.study.gpus import least_used, no_users, visible_gpus
from pipeline.system.worker_pool import worker_pool

_messages: Any = None
"""In a worker: the queue of what it tells the process that began it."""

_users: Any = ()
"""In a worker: how many of the pool use each GPU."""

Result = TypeVar("Result")


class Workers:
    """A pool that is begun when it is first asked for, and kept while as many processes are asked for.

    With `spare` it has up to twice as many less one, for the last runs of a study; each begins when none is free.
    """

    def __init__(self, spare: bool = False) -> None:
        self._spare = spare
        self._open, self._jobs = ExitStack(), 0
        self._pool: ProcessPoolExecutor | None = None
        self.messages: Any = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs, self._pool = 0, None
        self._open.__exit__(kind, error, trace)

    def begin(self, jobs: int) -> None:
        """Let as many processes import what they need, while this one does something else."""
        with self.pool(jobs) as pool:
            for _ in range(jobs):
                pool.submit(on_a_gpu, _load)

    @contextmanager
    def pool(self, jobs: int) -> Iterator[ProcessPoolExecutor]:
        """Give `jobs` processes; an error or a signal inside the block ends them at once."""
        if self._pool is None or self._jobs != jobs:
            self.end()
            self.messages = get_context("spawn").Queue()
            beginning = (_begin, self.messages, no_users(visible_gpus()))
            most = 2 * jobs - 1 if self._spare else jobs
            self._pool, self._jobs = self._open.enter_context(worker_pool(most, *beginning)), jobs
        try:
            yield self._pool
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def end(self) -> None:
        """End the processes once they have done what they do."""
        self.__exit__(None, None, None)


def tell(message: object) -> None:
    """From a worker: put a message into the queue of `Workers.messages`; elsewhere do nothing."""
    if _messages is not None:
        _messages.put(message)


def on_a_gpu(task: Callable[..., Result], *arguments: Any) -> Result:
    """In a worker: carry out the task, on the GPU that the fewest use where there are any."""
    with least_used(_users) as gpu:
        if gpu is not None:
            import torch

            torch.cuda.set_device(gpu)
        return task(*arguments)


def _begin(messages: Any, users: Any) -> None:
    global _messages, _users
    _messages, _users = messages, users


def _load() -> None:
    """Import what a run needs; on a GPU load the libraries of convolutions as well."""
    import torch

    importlib.import_module("pipeline.training.run")
    if torch.cuda.is_available():
        torch.nn.functional.conv3d(*(torch.ones((1, 1, 3, 3, 3), device="cuda"),) * 2)
