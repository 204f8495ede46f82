"""Sampling of patches. Each patch is determined by (seed, fold, draw), never by loss, number of workers or machine."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.plan import Plan
from pipeline.system.background_thread import map_in_background
from pipeline.system.random_streams import stream
from pipeline.training.augmentation import AugmentationRanges
from pipeline.training.nnunet_augmentation import NnUNetRanges
from pipeline.training.preparation import PreparedCase

Number = TypeVar("Number", bound=np.number)

CACHE_BYTES = 128 * 2**20
"""Memory for cases that one training keeps open."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which patches are centered on foreground, where the case has any.

    Attributes
    ----------
    foreground_share
        Share of the patches.
    last_of_batch
        True if these are the last patches of each batch, at least one, as in nnU-Net; otherwise they are drawn.

    Examples
    --------
    >>> from pipeline.training.patch_sampling import Sampling
    >>> sampling = Sampling(foreground_share=0.33, last_of_batch=True)
    >>> [sampling.is_on_foreground(draw, batch=3, chance=0.0) for draw in range(6)]
    [False, False, True, False, False, True]
    """

    foreground_share: float = 0.5
    last_of_batch: bool = False

    def is_on_foreground(self, draw: int, batch: int, chance: float) -> bool:
        """Return whether the patch of a draw is centered on foreground.

        Parameters
        ----------
        draw
            Number of the draw.
        batch
            Patches in a batch.
        chance
            Random number in 0..1.
        """
        if not self.last_of_batch:
            return chance < self.foreground_share
        return draw % batch >= min(round(batch * (1 - self.foreground_share)), batch - 1)


class Batch(TypedDict):
    """Crops of one training step: image (B, C, *crop) float32, label (B, 1, *crop) uint8, and the index of the step."""

    image: torch.Tensor
    label: torch.Tensor
    step: torch.Tensor


class OpenCase(NamedTuple):
    """Arrays of a prepared case.

    Attributes
    ----------
    image
        Image (C, X, Y, Z).
    label
        Class indices (1, X, Y, Z).
    foreground
        Flat indices of foreground voxels by class.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    foreground: dict[int, NDArray[np.int64]]


class CaseCache:
    """The first cases in memory, up to `CACHE_BYTES`, and all others memory-mapped.

    Opening the files of a small case takes longer than cropping it.
    """

    def __init__(self) -> None:
        self._cases: dict[PreparedCase, OpenCase] = {}
        self._bytes = 0

    def open(self, case: PreparedCase) -> OpenCase:
        """Return the arrays of a case, from memory if it is cached.

        Raises
        ------
        OSError
            If a file of the case cannot be read.
        """
        opened = self._cases.get(case)
        if opened is None:
            opened = OpenCase(case.image(), case.label()[None], case.foreground())
            size = opened.image.nbytes + opened.label.nbytes + sum(one.nbytes for one in opened.foreground.values())
            if self._bytes + size <= CACHE_BYTES:
                self._bytes += size
                opened = opened._replace(image=np.array(opened.image), label=np.array(opened.label))
                self._cases[case] = opened
        return opened


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """The order of cases and the positions of patches for one fold and seed.

    Attributes
    ----------
    cases
        Training cases.
    plan
        Gives patch, batch and channels.
    seed, fold
        Select the random streams.
    sampling
        Share of patches on foreground.
    augmentation
        Augmentation of the patches, which determines the size of the crops.
    cache
        Cases in memory.
    """

    cases: tuple[PreparedCase, ...]
    plan: Plan
    seed: int
    fold: int
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: AugmentationRanges | NnUNetRanges = field(default_factory=AugmentationRanges)
    cache: CaseCache = field(default_factory=CaseCache, init=False, repr=False, compare=False)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape (B, C, *patch) of the network's input."""
        return self.plan.batch, len(self.plan.normalisation), *self.plan.patch

    @property
    def crop_shape(self) -> tuple[int, int, int]:
        """Edges of a crop in voxels: the patch with a margin for rotation and scaling."""
        return self.augmentation.crop_shape(self.plan)

    def case_of(self, draw: int) -> PreparedCase:
        """Return the case of a draw. Every case is drawn once in random order before any is drawn again."""
        epoch, position = divmod(draw, len(self.cases))
        order = stream(self.seed, "order", self.fold, epoch).permutation(len(self.cases))
        return self.cases[int(order[position])]

    def center(self, draw: int, case: OpenCase) -> tuple[int, int, int]:
        """Return the center voxel of a patch.

        It is a voxel of a random foreground class in as many draws as `sampling` says, otherwise any voxel. The patch
        stays inside the volume; along an axis on which the volume is smaller than the patch, it is the center of the
        volume.
        """
        random = stream(self.seed, "patch", self.fold, draw)
        # All numbers are drawn whether or not they are used, so that the stream does not depend on the case.
        on_foreground, class_draw, voxel_draw = random.random(3)
        anywhere = random.random(3)
        shape = case.label.shape[1:]
        middle = np.asarray(shape) / 2
        half = np.minimum(np.asarray(self.plan.patch) / 2, middle)
        low, high = half, np.asarray(shape) - half
        center = low + anywhere * (high - low)
        if case.foreground and self.sampling.is_on_foreground(draw, self.plan.batch, on_foreground):
            classes = sorted(case.foreground)
            voxels = case.foreground[classes[int(class_draw * len(classes))]]
            voxel = np.asarray(np.unravel_index(voxels[int(voxel_draw * len(voxels))], shape))
            center = np.clip(voxel, low, high)
        x, y, z = (round(float(value)) for value in center)
        return x, y, z

    def sample(self, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the crop of a draw: image (C, *crop) float32 and class indices (1, *crop) uint8, padded with zeros."""
        case = self.cache.open(self.case_of(draw))
        center = self.center(draw, case)
        image = crop_around(case.image, center, self.crop_shape)
        label = crop_around(case.label, center, self.crop_shape)
        return torch.from_numpy(image), torch.from_numpy(label)


class NoiseSampler(PatchSampler):
    """A sampler of noise, to time a training without any case."""

    def sample(self, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return normal noise (C, *crop) float32 and background (1, *crop) uint8."""
        random = torch.Generator().manual_seed(draw)
        channels = len(self.plan.normalisation)
        image = torch.randn((channels, *self.crop_shape), generator=random)
        return image, torch.zeros((1, *self.crop_shape), dtype=torch.uint8)


def crop_around(volume: NDArray[Number], center: Sequence[int], shape: Sequence[int]) -> NDArray[Number]:
    """Return the box around a voxel of a volume (C, X, Y, Z), with zeros outside the volume.

    Parameters
    ----------
    volume
        Array (C, X, Y, Z) of any type.
    center
        Index of the voxel that becomes index ``shape // 2`` of the box.
    shape
        Edges of the box.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.training.patch_sampling import crop_around
    >>> row = np.array([[[[1, 2, 3]]]])
    >>> crop_around(row, (0, 0, 0), (1, 1, 4)).tolist()
    [[[[0, 0, 1, 2]]]]
    """
    box = np.zeros((volume.shape[0], *shape), dtype=volume.dtype)
    source, target = [slice(None)], [slice(None)]
    for middle, length, size in zip(center, shape, volume.shape[1:], strict=True):
        start = middle - length // 2
        first, last = max(start, 0), min(start + length, size)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    box[tuple(target)] = volume[tuple(source)]
    return box


def batches(sampler: PatchSampler, first_step: int, last_step: int, prefetch: bool = False) -> Iterator[Batch]:
    """Yield the batches of the steps from `first_step` up to, not including, `last_step`.

    Parameters
    ----------
    sampler
        Samples the crops; the batch of step i holds draws i B to (i + 1) B - 1.
    first_step, last_step
        Range of steps.
    prefetch
        True if a thread prepares the next batch while the caller computes, in pinned memory where there is a GPU.

    Raises
    ------
    OSError
        If a file of a case cannot be read.
    """
    steps = range(first_step, last_step)
    if not prefetch:
        yield from (_batch(sampler, step) for step in steps)
        return
    # A new thread starts on GPU 0, and pinning memory there would create a second CUDA context.
    on_same_gpu = (torch.cuda.set_device, (torch.cuda.current_device(),)) if torch.cuda.is_available() else None
    yield from map_in_background(partial(_pinned_batch, sampler), steps, on_same_gpu)


def _batch(sampler: PatchSampler, step: int) -> Batch:
    first = step * sampler.plan.batch
    images, labels = zip(*(sampler.sample(first + i) for i in range(sampler.plan.batch)), strict=True)
    return {"image": torch.stack(images), "label": torch.stack(labels), "step": torch.tensor(step)}


def _pinned_batch(sampler: PatchSampler, step: int) -> Batch:
    """Return a batch in page-locked memory, from which a GPU copies while it computes; other memory blocks it."""
    batch = _batch(sampler, step)
    if not torch.cuda.is_available():
        return batch
    return {
        "image": batch["image"].pin_memory(),
        "label": batch["label"].pin_memory(),
        "step": batch["step"].pin_memory(),
    }


class InputHash:
    """A running hash of all inputs of a network and their labels; equal hashes prove that two runs saw the same.

    Tensors on a GPU are hashed by a thread, so that the training does not wait for their copy.

    Parameters
    ----------
    state
        Hash so far, in hexadecimal, to continue from.
    """

    def __init__(self, state: str = "") -> None:
        self._state = state
        self._pending: Future[str] | None = None

    @property
    def state(self) -> str:
        """The hash of all batches so far, in hexadecimal."""
        if self._pending is not None:
            self._state, self._pending = self._pending.result(), None
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state, self._pending = state, None

    def update(self, *tensors: torch.Tensor) -> None:
        """Add the tensors of one batch."""
        before = self.state
        copies = [tensor.detach().contiguous().to("cpu", non_blocking=True) for tensor in tensors]
        if tensors[0].is_cuda:
            # The copies are complete only when the GPU has passed this event.
            copied = torch.cuda.Event()
            copied.record()
            self._pending = _hashing_thread().submit(_digest, before, copies, copied)
        else:
            self._state = _digest(before, copies)


@cache
def _hashing_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def _digest(before: str, tensors: Sequence[torch.Tensor], copied: "torch.cuda.Event | None" = None) -> str:
    """Return the hash after one more batch, once it has been copied to the CPU."""
    if copied is not None:
        copied.synchronize()
    digest = hashlib.blake2b(before.encode(), digest_size=16)
    for tensor in tensors:
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
