"""What the network is fed: every patch is determined by (seed, fold, draw), never by the loss, workers or machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.plan import Plan
from pipeline.randomness import stream
from pipeline.training.preparation import PreparedCase

FOREGROUND_SHARE = 0.5
CROP_MARGIN = 1.25
"""Crops are this much larger than the patch along each axis, so that rotation and scaling find real voxels."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The order of cases and the position of patches for one fold and seed."""

    cases: tuple[PreparedCase, ...]
    plan: Plan
    seed: int
    fold: int

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

    def centre(self, draw: int, case: PreparedCase) -> tuple[int, int, int]:
        """Return the centre voxel of a patch: on a random class in half of the draws, else anywhere.

        Where the volume is no larger than the patch along an axis the centre is that of the volume.
        """
        random = stream(self.seed, "patch", self.fold, draw)
        on_foreground, class_draw, voxel_draw = random.random(3)
        anywhere = random.random(3)
        middle = np.asarray(case.shape) / 2
        half = np.minimum(np.asarray(self.plan.patch) / 2, middle)
        low, high = half, np.asarray(case.shape) - half
        centre = low + anywhere * (high - low)
        if on_foreground < FOREGROUND_SHARE:
            foreground = case.foreground()
            if foreground:
                classes = sorted(foreground)
                voxels = foreground[classes[int(class_draw * len(classes))]]
                voxel = np.asarray(np.unravel_index(voxels[int(voxel_draw * len(voxels))], case.shape))
                centre = np.clip(voxel, low, high)
        x, y, z = (round(float(value)) for value in centre)
        return x, y, z

    def sample(self, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a crop of one draw: image (C, *crop) float32 and class indices (1, *crop) float32, zero-padded."""
        case = self.case_of(draw)
        centre = self.centre(draw, case)
        image = cut(case.image(), centre, self.crop)
        label = cut(case.label()[None], centre, self.crop)
        return torch.from_numpy(image), torch.from_numpy(label.astype(np.float32))


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


class _Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch `step` of a run: draws ``step * batch`` to ``(step + 1) * batch - 1``."""

    def __init__(self, feed: Feed, first_step: int, last_step: int) -> None:
        self.feed, self.first_step, self.last_step = feed, first_step, last_step

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        batch = self.feed.plan.batch
        step = self.first_step + index
        images, labels = zip(*(self.feed.sample(step * batch + i) for i in range(batch)), strict=True)
        return {"image": torch.stack(images), "label": torch.stack(labels), "step": torch.tensor(step)}


def batches(
    feed: Feed, first_step: int, last_step: int, workers: int, pinned: bool = False
) -> DataLoader[dict[str, torch.Tensor]]:
    """Return a loader of the batches from `first_step` up to, not including, `last_step`, in order.

    `pinned` memory is copied to a GPU while that computes.
    """
    return DataLoader(
        _Batches(feed, first_step, last_step),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=False,
        pin_memory=pinned,
    )


class FeedHash:
    """A running hash of everything the network was fed; equal hashes prove that two runs saw the same."""

    def __init__(self, state: str = "") -> None:
        self.state = state

    def update(self, *tensors: torch.Tensor) -> None:
        """Add one batch."""
        digest = hashlib.blake2b(self.state.encode(), digest_size=16)
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        self.state = digest.hexdigest()
