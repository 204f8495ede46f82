"""Worker processes of this machine that first time it and then train: their imports, seconds each, are paid once."""

import importlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import Any, TypeVar

from pipeline.study.executors.gpu_sharing import UserCounts, least_used_gpu, new_user_counts, visible_gpus
from pipeline.system.worker_pool import worker_pool

_messages: "Any | None" = None
"""In a worker process: the queue to the process that started it."""

_users: "UserCounts | None" = None
"""In a worker process: users of each GPU among the processes of the pool."""

Result = TypeVar("Result")


class ReusablePool:
    """A pool that starts on first use and is reused as long as the same number of processes is needed."""

    def __init__(self) -> None:
        self._resources, self._jobs = ExitStack(), 0
        self._pool: ProcessPoolExecutor | None = None
        self._messages: Any | None = None

    def __enter__(self) -> "ReusablePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs, self._pool = 0, None
        self._resources.__exit__(kind, error, trace)

    def start(self, jobs: int) -> None:
        """Let `jobs` processes import what a run needs, while this process does something else."""
        with self.processes(jobs) as pool:
            for _ in range(jobs):
                pool.submit(on_least_used_gpu, _import_training)

    @contextmanager
    def processes(self, jobs: int) -> Iterator[ProcessPoolExecutor]:
        """Yield a pool of `jobs` processes; an error or a signal inside the block ends them at once."""
        if self._pool is None or self._jobs != jobs:
            self.close()
            # Everything is spawned, never forked: a forked child of a process with OpenMP or CUDA threads hangs.
            self._messages = get_context("spawn").Queue()
            initializer = (_initialize, self._messages, new_user_counts(visible_gpus()))
            self._pool, self._jobs = self._resources.enter_context(worker_pool(jobs, *initializer)), jobs
        try:
            yield self._pool
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def received_messages(self) -> Iterator[Any]:
        """Yield the messages that have arrived from the processes; never wait for one."""
        if self._messages is None:
            return
        while True:
            try:
                yield self._messages.get_nowait()
            except queue.Empty:
                return

    def close(self) -> None:
        """Wait for the tasks of the processes, then end the processes."""
        self.__exit__(None, None, None)


def send_message(message: object) -> None:
    """Send a message from a worker process to `ReusablePool.received_messages`; elsewhere do nothing."""
    if _messages is not None:
        _messages.put(message)


def on_least_used_gpu(task: Callable[..., Result], *arguments: Any) -> Result:
    """Carry out a task in a worker process, on the GPU with the fewest users if the machine has GPUs."""
    with least_used_gpu(_users) as gpu:
        if gpu is not None:
            import torch

            torch.cuda.set_device(gpu)
        return task(*arguments)


def _initialize(messages: Any, users: UserCounts) -> None:
    global _messages, _users
    _messages, _users = messages, users


def _import_training() -> None:
    """Import what a run needs; on a GPU also load the convolution libraries, which takes seconds at first use."""
    import torch

    importlib.import_module("pipeline.training.run")
    if torch.cuda.is_available():
        torch.nn.functional.conv3d(*(torch.ones((1, 1, 3, 3, 3), device="cuda"),) * 2)
