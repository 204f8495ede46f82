"""Batches depend on seed and index alone, with a loader that draws from every global generator as nnU-Net's does."""

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.trainers.nnunet.seeded_batches import HASH, SeededBatches, batch_hash


class Loader:
    """Draws a batch from Python's, numpy's and torch's global generators."""

    def __next__(self) -> dict[str, Any]:
        draws = [random.random(), np.random.random(), float(torch.rand(()))]  # noqa: NPY002
        return {"data": torch.tensor(draws), "target": [torch.tensor([random.randrange(9)])]}


def batches(count: int, workers: int = 1, first: int = 0, seed: int = 0, words: tuple[str | int, ...] = ("train", 0)):
    """Return the batches that a reader receives who asks the workers in turn."""
    feeds = [SeededBatches(Loader(), seed, words, first, workers) for _ in range(workers)]
    for worker, feed in enumerate(feeds):
        feed.set_thread_id(worker)
    return [next(feeds[index % workers])[HASH] for index in range(count)]


@given(st.integers(1, 5), st.integers(0, 7))
def test_batches_depend_on_neither_workers_nor_interruptions(workers: int, first: int) -> None:
    whole = batches(12)
    assert len(set(whole)) == 12
    assert batches(12 - first, workers, first) == whole[first:]


@pytest.mark.parametrize("change", [{"seed": 1}, {"words": ("validation", 0)}, {"words": ("train", 1)}])
def test_seeds_folds_and_streams_differ(change: dict[str, Any]) -> None:
    assert not set(batches(4)) & set(batches(4, **change))


@pytest.mark.parametrize("part", ["data", "target"])
def test_the_hash_depends_on_every_value(part: str) -> None:
    batch = {"data": torch.zeros(2, 1, 4, 4), "target": [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2)]}
    before = batch_hash(batch)
    changed = batch[part][-1] if part == "target" else batch[part]
    changed[0, 0, 1, 1] = 1
    assert batch_hash(batch) != before


def test_nested_blurs_use_one_algorithm() -> None:
    blur = SimpleNamespace(benchmark=True)
    loader = Loader()
    loader.transforms = SimpleNamespace(transforms=[SimpleNamespace(transform=blur), SimpleNamespace()])  # type: ignore[attr-defined]
    SeededBatches(loader, 0, ("train",), 0, 1)
    assert blur.benchmark is False
