"""Batches of nnU-Net whose content depends on a seed and their index alone, and their hashes."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from pipeline.system.random_streams import derived_seed

HASH = "segloss_hash"
"""Entry of a batch with the SHA-256 of its data and targets."""


class SeededBatches:
    """A loader of nnU-Net whose random generators are seeded anew before each batch.

    Worker ``w`` of ``n`` yields the batches ``first + w``, ``first + w + n``, and so on. A reader that asks the workers
    in turn therefore receives the same batches in the same order, whatever their number.

    Parameters
    ----------
    loader
        nnU-Net's loader. It draws from the global generators of Python, numpy and torch, and has no other state.
    seed
        Seed of the training.
    words
        Name of the random stream.
    first
        Index of the first batch.
    workers
        Number of processes that share the batches.
    """

    def __init__(self, loader: Any, seed: int, words: tuple[str | int, ...], first: int, workers: int) -> None:
        self.loader = loader
        self.seed = seed
        self.words = words
        self.first = self.index = first
        self.workers = workers
        _choose_one_algorithm(getattr(loader, "transforms", None))

    def set_thread_id(self, worker: int) -> None:
        """Set which of the workers this is; `batchgenerators` calls it in each process."""
        self.index = self.first + worker

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        seed = derived_seed(self.seed, *self.words, self.index)
        self.index += self.workers
        random.seed(seed)
        # Transforms draw from numpy's global generator, so a generator of our own would not do.
        np.random.seed(seed % 2**32)  # noqa: NPY002
        # `torch.manual_seed` also seeds GPUs, which a forked process must not touch.
        torch.default_generator.manual_seed(seed)
        batch: dict[str, Any] = next(self.loader)
        return batch | {HASH: batch_hash(batch)}


def batch_hash(batch: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the data (B, C, *S) of a batch and of its targets at every resolution."""
    target = batch["target"]
    digest = hashlib.sha256()
    for tensor in (batch["data"], *(target if isinstance(target, list) else [target])):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def _choose_one_algorithm(transform: Any) -> None:
    """Make every blur in nested transforms use one algorithm.

    nnU-Net measures in each process whether a convolution or a Fourier transform is faster; their last digits differ.
    """
    if getattr(transform, "benchmark", False):
        transform.benchmark = False
    inner = getattr(transform, "transforms", None) or [getattr(transform, "transform", None)]
    for each in inner:
        if each is not None:
            _choose_one_algorithm(each)
