"""What the network is fed: every patch is determined by (seed, fold, draw), never by the loss, workers or machine."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch

from pipeline.data.plan import Plan
from pipeline.system.background_thread import map_in_background
from pipeline.system.random_streams import stream
from pipeline.training.preparation import PreparedCase

FOREGROUND_SHARE = 0.5
KEPT_BYTES = 128 * 2**20
CROP_MARGIN = 1.25
"""Crops are this much larger than the patch along each axis, so that rotation and scaling find real voxels."""


class Opened(NamedTuple):
    """A prepared case: image (C, X, Y, Z) float32, class indices (1, X, Y, Z) uint8, flat indices of each class."""

    image: np.ndarray
    label: np.ndarray
    foreground: dict[int, np.ndarray]


class Kept:
    """The first cases in memory, up to `KEPT_BYTES`: opening the files of a small one takes longer than cutting."""

    def __init__(self) -> None:
        self._cases: dict[PreparedCase, Opened] = {}
        self._bytes = 0

    def opened(self, case: PreparedCase) -> Opened:
        """Return the case from memory, else memory-mapped."""
        found = self._cases.get(case)
        if found is None:
            found = Opened(case.image(), case.label()[None], case.foreground())
            size = sum(array.nbytes for array in (found.image, found.label, *found.foreground.values()))
            if self._bytes + size <= KEPT_BYTES:
                self._bytes += size
                found = self._cases[case] = found._replace(image=np.array(found.image), label=np.array(found.label))
        return found


@dataclass(frozen=True, slots=True)
class Feed:
    """The order of cases and the position of patches for one fold and seed."""

    cases: tuple[PreparedCase, ...]
    plan: Plan
    seed: int
    fold: int
    kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape (B, C, *patch) of what the network is fed."""
        return self.plan.batch, len(self.plan.normalisation), *self.plan.patch

    @property
    def crop(self) -> tuple[int, int, int]:
        """Shape of a crop before augmentation, a little larger than the patch."""
        x, y, z = (int(np.ceil(edge * CROP_MARGIN / 2)) * 2 for edge in self.plan.patch)
        return x, y, z

    def case_of(self, draw: int) -> PreparedCase:
        """Return the case of a draw: every case once in a random order, then all again in another."""
        epoch, position = divmod(draw, len(self.cases))
        order = stream(self.seed, "order", self.fold, epoch).permutation(len(self.cases))
        return self.cases[int(order[position])]

    def centre(self, draw: int, case: Opened) -> tuple[int, int, int]:
        """Return the centre voxel of a patch: on a random class in half of the draws, else anywhere.

        Where the volume is no larger than the patch along an axis the centre is that of the volume.
        """
        random = stream(self.seed, "patch", self.fold, draw)
        on_foreground, class_draw, voxel_draw = random.random(3)
        anywhere = random.random(3)
        shape = case.label.shape[1:]
        middle = np.asarray(shape) / 2
        half = np.minimum(np.asarray(self.plan.patch) / 2, middle)
        low, high = half, np.asarray(shape) - half
        centre = low + anywhere * (high - low)
        if on_foreground < FOREGROUND_SHARE and case.foreground:
            classes = sorted(case.foreground)
            voxels = case.foreground[classes[int(class_draw * len(classes))]]
            voxel = np.asarray(np.unravel_index(voxels[int(voxel_draw * len(voxels))], shape))
            centre = np.clip(voxel, low, high)
        x, y, z = (round(float(value)) for value in centre)
        return x, y, z

    def sample(self, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a crop of one draw: image (C, *crop) float32 and class indices (1, *crop) uint8, zero-padded."""
        case = self.kept.opened(self.case_of(draw))
        centre = self.centre(draw, case)
        image = cut(case.image, centre, self.crop)
        label = cut(case.label, centre, self.crop)
        return torch.from_numpy(image), torch.from_numpy(label)


class RandomFeed(Feed):
    """Noise instead of cases, to time a training with."""

    def sample(self, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a crop as a feed of cases does."""
        random = torch.Generator().manual_seed(draw)
        channels = len(self.plan.normalisation)
        image = torch.randn((channels, *self.crop), generator=random)
        return image, torch.zeros((1, *self.crop), dtype=torch.uint8)


def cut(volume: np.ndarray, centre: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return the box of `shape` around `centre` from a volume (C, X, Y, Z), zeros outside of it."""
    result = np.zeros((volume.shape[0], *shape), dtype=volume.dtype)
    source, target = [slice(None)], [slice(None)]
    for middle, length, size in zip(centre, shape, volume.shape[1:], strict=True):
        start = middle - length // 2
        first, last = max(start, 0), min(start + length, size)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    result[tuple(target)] = volume[tuple(source)]
    return result


def batches(feed: Feed, first_step: int, last_step: int, ahead: bool = False) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of steps from `first_step` up to, not including, `last_step`.

    With `ahead` a thread cuts the next batch meanwhile, into memory from which a GPU copies while it computes.
    """
    steps = range(first_step, last_step)
    if not ahead:
        yield from (_batch(feed, step) for step in steps)
        return
    on_same_gpu = (torch.cuda.set_device, (torch.cuda.current_device(),)) if torch.cuda.is_available() else None
    yield from map_in_background(partial(_pinned_batch, feed), steps, on_same_gpu)


def _batch(feed: Feed, step: int) -> dict[str, torch.Tensor]:
    first = step * feed.plan.batch
    images, labels = zip(*(feed.sample(first + i) for i in range(feed.plan.batch)), strict=True)
    return {"image": torch.stack(images), "label": torch.stack(labels), "step": torch.tensor(step)}


def _pinned_batch(feed: Feed, step: int) -> dict[str, torch.Tensor]:
    batch = _batch(feed, step)
    return {name: tensor.pin_memory() for name, tensor in batch.items()} if torch.cuda.is_available() else batch


class FeedHash:
    """A running hash of everything the network was fed; equal hashes prove that two runs saw the same.

    What comes from a GPU is hashed by a thread, so that nothing waits for the copy.
    """

    def __init__(self, state: str = "") -> None:
        self._state = state
        self._waiting: Future[str] | None = None

    @property
    def state(self) -> str:
        """The hash of all batches added, in hexadecimal."""
        if self._waiting is not None:
            self._state, self._waiting = self._waiting.result(), None
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state, self._waiting = state, None

    def update(self, *tensors: torch.Tensor) -> None:
        """Add one batch."""
        before = self.state
        copies = [tensor.detach().contiguous().to("cpu", non_blocking=True) for tensor in tensors]
        if tensors[0].is_cuda:
            copied = torch.cuda.Event()
            copied.record()
            self._waiting = _hashing().submit(_digest, before, copies, copied)
        else:
            self._state = _digest(before, copies)


@cache
def _hashing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def _digest(before: str, tensors: Sequence[torch.Tensor], copied: "torch.cuda.Event | None" = None) -> str:
    """Return the hash after one more batch, once it has been copied."""
    if copied is not None:
        copied.synchronize()
    digest = hashlib.blake2b(before.encode(), digest_size=16)
    for tensor in tensors:
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
