"""Sharing the GPUs of this machine among the processes of a pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.sharedctypes import SynchronizedArray
from typing import TypeAlias

UserCounts: TypeAlias = "SynchronizedArray[int]"
"""Number of users of each GPU, in memory that processes share."""


def visible_gpus() -> int:
    """Return the number of GPUs that this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def new_user_counts(gpus: int) -> UserCounts:
    """Return counts for `gpus` GPUs, all zero.

    They must come from the spawn context, since the pools spawn their processes.
    """
    return get_context("spawn").Array("i", gpus)


@contextmanager
def least_used_gpu(users: "UserCounts | None") -> Iterator[int | None]:
    """Yield the index of the GPU with the fewest users, and count as its user inside; yield None without a GPU.

    Processes of a pool have no number of their own, so that a fixed assignment by number is not possible.
    """
    if users is None or not len(users):
        yield None
        return
    with users.get_lock():
        gpu = min(range(len(users)), key=lambda index: users[index])
        users[gpu] += 1
    try:
        yield gpu
    finally:
        with users.get_lock():
            users[gpu] -= 1
