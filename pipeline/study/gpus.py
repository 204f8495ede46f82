"""GPUs of this machine, shared among the processes of a pool."""

import os
from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any


def visible_gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    import torch

    if not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in named.split(",") if name.strip()]
    return tuple(names or map(str, range(torch.cuda.device_count())))


def turns() -> Any:
    """Return a counter that the processes of a pool share, to be given to `take_turn`."""
    return get_context("spawn").Value("i", 0)


def take_turn(counter: Any, gpus: Sequence[str]) -> None:
    """Let this process see one of the GPUs alone, the next one in turn, before it asks for any."""
    with counter.get_lock():
        turn, counter.value = counter.value, counter.value + 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[turn % len(gpus)]
