"""Sliding-window prediction of volumes that are too large to hold the scores of all classes in float32.

Windows are stitched slab by slab along the first axis. Only the slab that coming windows still overlap is in memory.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch.nn import functional

_SIGMA_SCALE = 0.125
"""Standard deviation of the Gaussian weights, as a share of the window's edge: MONAI's default."""

_SMALLEST_WEIGHT = 1e-3
"""Lower bound of the Gaussian weights, as in MONAI, so that no voxel is divided by zero."""

_CONSTANT_WINDOWS_CACHED = 8
"""Different constant windows whose scores are cached: air has one value or few, and each entry is a whole window."""


@torch.inference_mode()
def sliding_slabs(
    image: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
    patch: Sequence[int],
    overlap: float,
    batch: int = 1,
    device: torch.device | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the scores of one slab after the other along the first axis; together they are the whole volume.

    The windows, their Gaussian weights and the order of summation are those of MONAI's `SlidingWindowInferer` with
    ``mode="gaussian"`` and ``padding_mode="constant"``. With ``batch=1`` the result is equal bit for bit. Windows that
    are constant in each channel, such as the air around a head, are predicted once per value.

    Parameters
    ----------
    image
        Image (C, X, Y, Z) float32 on the CPU.
    predict
        Maps windows (B, C, *patch) to scores (B, K, *patch).
    patch
        Edges of a window in voxels.
    overlap
        Overlap of neighboring windows, as a share of the edge, 0 to below 1.
    batch
        Largest number of windows in one call of `predict`.
    device
        Device on which `predict` expects its windows; by default the device of the image.

    Yields
    ------
    tuple of int and Tensor
        First index of the slab along X, and its scores (K, x, Y, Z) float32 on the CPU.
    """
    size = image.shape[1:]
    missing = [max(edge - length, 0) for edge, length in zip(patch, size, strict=True)]
    before = [voxels // 2 for voxels in missing]
    if any(missing):
        sides = [(low, voxels - low) for low, voxels in zip(before, missing, strict=True)]
        image = functional.pad(image, [side for pair in reversed(sides) for side in pair])  # last axis first
    padded = image.shape[1:]
    interval = [
        edge if edge == length else max(1, int(edge * (1 - overlap)))
        for edge, length in zip(patch, padded, strict=True)
    ]
    windows = dense_patch_slices(padded, patch, interval)
    weights = compute_importance_map(tuple(patch), mode="gaussian", sigma_scale=_SIGMA_SCALE)
    weights = weights.float().clamp_(min=max(float(weights.min()), _SMALLEST_WEIGHT))
    score = _WindowScorer(image, predict, batch, device or image.device)
    crop = [slice(low, low + length) for low, length in zip(before, size, strict=True)]

    starts = sorted({window[0].start for window in windows})
    total = divisor = None
    for index, start in enumerate(starts):
        row = [window for window in windows if window[0].start == start]
        for window, scores in score(row):
            if total is None or divisor is None:
                total = torch.zeros((scores.shape[0], patch[0], *padded[1:]))
                divisor = torch.zeros((1, patch[0], *padded[1:]))
            total[:, :, window[1], window[2]] += scores.mul_(weights)
            divisor[:, :, window[1], window[2]] += weights
        assert total is not None
        assert divisor is not None
        # Windows are sorted by their start along X, so no later window reaches below the next start.
        complete = starts[index + 1] - start if index + 1 < len(starts) else patch[0]
        scores = (total[:, :complete] / divisor[:, :complete])[:, :, crop[1], crop[2]]
        low, high = max(start, crop[0].start), min(start + complete, crop[0].stop)
        if low < high:
            yield low - crop[0].start, scores[:, low - start : high - start]
        for buffer in (total, divisor):
            buffer[:, : patch[0] - complete] = buffer[:, complete:].clone()  # source and target overlap
            buffer[:, patch[0] - complete :] = 0


def sliding_scores(
    image: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
    patch: Sequence[int],
    overlap: float,
    batch: int = 1,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return all scores (K, X, Y, Z) float32 of an image (C, X, Y, Z); see `sliding_slabs`."""
    volume: torch.Tensor | None = None
    for start, scores in sliding_slabs(image, predict, patch, overlap, batch, device):
        if volume is None:
            volume = torch.empty((scores.shape[0], *image.shape[1:]))
        volume[:, start : start + scores.shape[1]] = scores
    assert volume is not None
    return volume


def predicted_classes(scores: torch.Tensor) -> torch.Tensor:
    """Return the index (X, Y, Z) of the class with the highest score at each voxel of scores (K, X, Y, Z).

    The first of equal scores wins.

    Raises
    ------
    FloatingPointError
        If a score is NaN or infinite. Its argmax would be a plausible class, such as the background with a Dice of 0.

    Examples
    --------
    >>> import torch
    >>> from pipeline.network.sliding_window import predicted_classes
    >>> predicted_classes(torch.tensor([[0.1, 2.0], [0.5, -1.0]]).reshape(2, 2, 1, 1)).flatten().tolist()
    [1, 0]
    """
    if not bool(torch.isfinite(scores).all()):
        raise FloatingPointError("the network's output is not finite")
    return scores.max(0).indices  # as `argmax(0)`, which is ten times as slow along the first axis


class _WindowScorer:
    """Score windows in their order, in batches; scores of constant windows are cached."""

    def __init__(
        self,
        image: torch.Tensor,
        predict: Callable[[torch.Tensor], torch.Tensor],
        batch: int,
        device: torch.device,
    ) -> None:
        self.image, self.predict, self.batch, self.device = image, predict, batch, device
        self.constants: dict[tuple[float, ...], torch.Tensor] = {}

    def __call__(self, windows: Sequence[tuple[slice, ...]]) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
        """Yield each window with its scores (K, *patch), a tensor of its own."""
        pending: list[tuple[tuple[slice, ...], torch.Tensor | None]] = []
        count = 0
        for window in windows:
            values = self.image[(slice(None), *window)]
            cached = self._scores_of_constant(values)
            pending.append((window, cached))
            count += cached is None
            if count == self.batch:
                yield from self._predict_batch(pending)
                pending, count = [], 0
        yield from self._predict_batch(pending)

    def _predict_batch(
        self, pending: Sequence[tuple[tuple[slice, ...], torch.Tensor | None]]
    ) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
        """Yield windows with their scores; those whose scores are None are predicted in one call."""
        images = [self.image[(slice(None), *window)] for window, cached in pending if cached is None]
        predicted = iter(self._run(torch.stack(images)) if images else ())
        for window, cached in pending:
            yield window, cached.clone() if cached is not None else next(predicted)

    def _scores_of_constant(self, values: torch.Tensor) -> torch.Tensor | None:
        """Return the scores of a window (C, *patch) that is constant in each channel, else None."""
        first = values[:, :1, :1, :1]
        # One row of voxels rules out most windows, before all voxels are compared.
        if not torch.equal(values[:, 0, 0], first[:, 0, 0].expand_as(values[:, 0, 0])):
            return None
        if not bool((values == first).all()):
            return None
        key = tuple(first.flatten().tolist())
        if key not in self.constants:
            if len(self.constants) >= _CONSTANT_WINDOWS_CACHED:
                return None
            self.constants[key] = self._run(values[None])[0]
        return self.constants[key]

    def _run(self, windows: torch.Tensor) -> torch.Tensor:
        return self.predict(windows.contiguous().to(self.device)).float().cpu()
