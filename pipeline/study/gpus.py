"""GPUs of this machine, shared among the processes of a pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any


def visible_gpus() -> int:
    """Return how many GPUs this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def no_users(gpus: int) -> Any:
    """Return how many use each of the GPUs: none yet, in memory that the processes of a pool share."""
    return get_context("spawn").Array("i", gpus)


@contextmanager
def least_used(users: Any) -> Iterator[int | None]:
    """Give the GPU that the fewest use, and count for one that does meanwhile; None where there is no GPU."""
    if not len(users):
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
