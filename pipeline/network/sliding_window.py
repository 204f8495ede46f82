"""Sliding windows that stitch as they go: only the slab that windows still overlap is held in float32."""

from collections.abc import Callable, Iterator, Sequence

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch.nn import functional

_SIGMA_SCALE = 0.125
_SMALLEST_WEIGHT = 1e-3
_CONSTANTS_KEPT = 8


@torch.inference_mode()
def sliding_slabs(
    image: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
    patch: Sequence[int],
    overlap: float,
    batch: int = 1,
    device: torch.device | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (x, scores) of slab after slab along the first axis, together the whole volume.

    The windows, their Gaussian weights and the order in which they are added are those of MONAI's
    `SlidingWindowInferer` with ``mode="gaussian"`` and ``padding_mode="constant"``. A window that holds one value for
    each channel (the air around a head) is predicted once for all of its kind, which changes nothing.

    Parameters
    ----------
    image
        (C, X, Y, Z) float32, on the CPU.
    predict
        From windows (B, C, *patch) to scores (B, K, *patch).
    patch, overlap, batch
        Of the windows; `overlap` as a share of the patch, `batch` windows at once at most.
    device
        Where `predict` wants its windows; that of the image by default.

    Yields
    ------
    tuple of int and Tensor
        Where the slab begins along X, and its scores (K, x, Y, Z) float32 on the CPU.
    """
    size = image.shape[1:]
    missing = [max(edge - have, 0) for edge, have in zip(patch, size, strict=True)]
    before = [edge // 2 for edge in missing]
    if any(missing):
        sides = [(low, edge - low) for low, edge in zip(before, missing, strict=True)]
        image = functional.pad(image, [side for pair in reversed(sides) for side in pair])
    padded = image.shape[1:]
    interval = [
        edge if edge == have else max(1, int(edge * (1 - overlap))) for edge, have in zip(patch, padded, strict=True)
    ]
    windows = dense_patch_slices(padded, patch, interval)
    weights = compute_importance_map(tuple(patch), mode="gaussian", sigma_scale=_SIGMA_SCALE)
    weights = weights.float().clamp_(min=max(float(weights.min()), _SMALLEST_WEIGHT))
    score = _Scorer(image, predict, batch, device or image.device)
    crop = [slice(low, low + have) for low, have in zip(before, size, strict=True)]

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
        ready = starts[index + 1] - start if index + 1 < len(starts) else patch[0]
        done = (total[:, :ready] / divisor[:, :ready])[:, :, crop[1], crop[2]]
        low, high = max(start, crop[0].start), min(start + ready, crop[0].stop)
        if low < high:
            yield low - crop[0].start, done[:, low - start : high - start]
        for held in (total, divisor):
            held[:, : patch[0] - ready] = held[:, ready:].clone()
            held[:, patch[0] - ready :] = 0


def sliding_scores(
    image: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
    patch: Sequence[int],
    overlap: float,
    batch: int = 1,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return all scores (K, X, Y, Z) float32 of an image (C, X, Y, Z); see `sliding_slabs`."""
    found: torch.Tensor | None = None
    for start, scores in sliding_slabs(image, predict, patch, overlap, batch, device):
        if found is None:
            found = torch.empty((scores.shape[0], *image.shape[1:]))
        found[:, start : start + scores.shape[1]] = scores
    assert found is not None
    return found


def decide(scores: torch.Tensor) -> torch.Tensor:
    """Return the class index (X, Y, Z) of scores (C, X, Y, Z).

    Raises
    ------
    FloatingPointError
        Where a score is not finite: the argmax of NaN would be the background, a plausible Dice of 0.
    """
    if not bool(torch.isfinite(scores).all()):
        raise FloatingPointError("the network's output is not finite")
    return scores.max(0).indices  # the first of equals as well, and ten times as fast as argmax along the first axis


class _Scorer:
    """Scores of windows, in their order; those of constant windows are kept."""

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
        waiting: list[tuple[tuple[slice, ...], torch.Tensor | None]] = []
        count = 0
        for window in windows:
            values = self.image[(slice(None), *window)]
            known = self._constant(values)
            waiting.append((window, known))
            count += known is None
            if count == self.batch:
                yield from self._predicted(waiting)
                waiting, count = [], 0
        yield from self._predicted(waiting)

    def _predicted(
        self, waiting: Sequence[tuple[tuple[slice, ...], torch.Tensor | None]]
    ) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
        unknown = [self.image[(slice(None), *window)] for window, known in waiting if known is None]
        fresh = iter(self._run(torch.stack(unknown)) if unknown else ())
        for window, known in waiting:
            yield window, known.clone() if known is not None else next(fresh)

    def _constant(self, values: torch.Tensor) -> torch.Tensor | None:
        first = values[:, :1, :1, :1]
        if not torch.equal(values[:, 0, 0], first[:, 0, 0].expand_as(values[:, 0, 0])):
            return None
        if not bool((values == first).all()):
            return None
        key = tuple(first.flatten().tolist())
        if key not in self.constants:
            if len(self.constants) >= _CONSTANTS_KEPT:
                return None
            self.constants[key] = self._run(values[None])[0]
        return self.constants[key]

    def _run(self, windows: torch.Tensor) -> torch.Tensor:
        return self.predict(windows.contiguous().to(self.device)).float().cpu()
