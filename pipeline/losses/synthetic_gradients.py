"""Small made-up patches, and what the losses of a study do on them: their gradients, and those of their terms.

The patches hold blobs of every class, about as frequent as in the dataset but never fewer than a few voxels, with
logits as early and late in a training; one batch has an empty patch, and the last is empty and predicted so.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.distance import DiceAndBoundary
from pipeline.losses.overlap import UnifiedFocal
from pipeline.losses.registry import Sum
from pipeline.system.random_streams import stream

EDGE = 16
"""Patches are at most this long along each axis: the whole preflight takes seconds."""

FEWEST_VOXELS = 8
SAME = 1e-3
"""Two gradients are the same where they differ by less than this share of their norm."""


@dataclass(frozen=True, slots=True)
class Patches:
    """A batch of two: logits (2, C, X, Y, Z), class indices (2, 1, X, Y, Z), and how far the training is.

    `has_foreground` is false for the last batch only, which is without, and confidently so.
    """

    logits: torch.Tensor
    target: torch.Tensor
    progress: float
    has_foreground: bool


@dataclass(frozen=True, slots=True)
class ProbedLoss:
    """A built loss and its gradients, (2, C, X, Y, Z) for each batch of patches."""

    spec: LossSpec
    loss: nn.Module
    gradients: tuple[torch.Tensor, ...]

    def whole(self, batches: int) -> torch.Tensor:
        """Return the gradients of the first batches in one vector."""
        return torch.cat([gradient.flatten() for gradient in self.gradients[:batches]]).double()


def make_patches(class_voxels: Sequence[int], plan: Plan | None, seed: int) -> tuple[Patches, ...]:
    """Return four batches: early, with an empty second patch; early; late; and empty with the right prediction."""
    shape = tuple(min(EDGE, edge) for edge in plan.patch) if plan else (EDGE, EDGE, EDGE)
    random = stream(seed, "preflight")
    target = torch.from_numpy(np.stack([_blobs(class_voxels, shape, random)[None] for _ in range(2)]))
    half_empty, empty = target.clone(), torch.zeros_like(target)
    half_empty[1] = 0

    def noise() -> torch.Tensor:
        return torch.from_numpy(random.standard_normal((2, len(class_voxels), *shape)).astype(np.float32))

    def truth(of: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(of[:, 0].long(), len(class_voxels)).movedim(-1, 1).float()

    return (
        Patches(0.5 * noise(), half_empty, 0.0, True),
        Patches(0.5 * noise(), target, 0.0, True),
        Patches(4 * truth(target) + 1.5 * noise(), target, 1.0, True),
        Patches(20 * truth(empty) + noise(), empty, 0.5, False),
    )


def _blobs(class_voxels: Sequence[int], shape: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Return class indices (X, Y, Z) float32: each class, rarest first, fills the peaks of a smooth random field."""
    voxels = np.asarray(class_voxels, dtype=np.float64)
    size = math.prod(shape)
    counts = np.where(voxels > 0, np.maximum(FEWEST_VOXELS, np.round(size * voxels / voxels.sum())), 0).astype(int)
    label = np.full(size, int(np.argmax(counts)))
    free = np.ones(size, dtype=bool)
    for value in np.argsort(counts, kind="stable")[:-1]:
        field = ndimage.gaussian_filter(random.standard_normal(shape), 2).ravel()
        chosen = np.argsort(np.where(free, field, -np.inf))[size - min(counts[value], int(free.sum())) :]
        label[chosen], free[chosen] = value, False
    return label.reshape(shape).astype(np.float32)


def probe(spec: LossSpec, class_voxels: Sequence[int], patches: Sequence[Patches]) -> ProbedLoss:
    """Build a loss and differentiate it; a `ConfigError` where it cannot be computed for this number of classes."""
    loss = build_loss(spec, class_voxels)
    try:
        return ProbedLoss(spec, loss, gradients_on(loss, patches))
    except Exception as error:  # whatever a user's own class raises is a wrong request
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ConfigError(
            f"--losses {spec.spec}",
            f"cannot be computed for {len(class_voxels)} classes ({reason})",
            "it is called with logits (B, C, X, Y, Z) and class indices (B, 1, X, Y, Z); check its arguments",
        ) from error


def gradients_on(loss: nn.Module, patches: Sequence[Patches]) -> tuple[torch.Tensor, ...]:
    """Return the gradient of the loss with respect to the logits of each batch."""
    found = []
    for batch in patches:
        logits = batch.logits.clone().requires_grad_()
        set_progress = getattr(loss, "set_progress", None)
        if callable(set_progress):
            set_progress(batch.progress)
        (gradient,) = torch.autograd.grad(loss(logits, batch.target), logits)
        found.append(gradient)
    return tuple(found)


def terms_of(arm: ProbedLoss, patches: Sequence[Patches]) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
    """Yield the terms of a loss that is a sum, each with its gradients."""
    inner: Any = arm.loss.inner

    def changed(loss: nn.Module, **attributes: Any) -> tuple[torch.Tensor, ...]:
        before = {name: getattr(loss, name) for name in attributes}
        try:
            for name, value in attributes.items():
                setattr(loss, name, value)
            return gradients_on(arm.loss, patches)
        finally:
            for name, value in before.items():
                setattr(loss, name, value)

    def rest(without: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(whole - part for whole, part in zip(arm.gradients, without, strict=True))

    if isinstance(inner, Sum):
        for index, part in enumerate(inner.parts):
            factors = list(inner.factors)
            factors[index] = 0.0
            yield _readable(type(part).__name__), rest(changed(inner, factors=factors))
    elif isinstance(inner, DiceAndBoundary):
        yield "boundary", rest(changed(inner, largest=0.01))
    elif isinstance(inner, UnifiedFocal):
        yield "focal", tuple(inner.weight * gradient for gradient in changed(inner, weight=1.0))
        yield "focal Tversky", tuple((1 - inner.weight) * gradient for gradient in changed(inner, weight=0.0))
    else:
        for name in vars(inner):
            if name.startswith("lambda_") and isinstance(getattr(inner, name), int | float):
                yield name.removeprefix("lambda_").replace("_", " "), rest(changed(inner, **{name: 0.0}))


def _readable(class_name: str) -> str:
    return class_name.removesuffix("Loss")


def likeness(a: ProbedLoss, b: ProbedLoss) -> str | None:
    """Return how two losses train alike, in words that may be empty, or None where they differ.

    They do where their gradients agree up to one positive factor on the patches with foreground, which come first.
    """
    with_foreground, everywhere = len(a.gradients) - 1, len(a.gradients)

    def differ(batches: int) -> bool:
        x, y = a.whole(batches), b.whole(batches)
        return not float(x.norm()) * float(y.norm()) > 0 or float((x / x.norm() - y / y.norm()).norm()) > SAME

    if differ(with_foreground):
        return None
    factor = float(a.whole(with_foreground).norm() / b.whole(with_foreground).norm())
    words = "" if abs(factor - 1) < SAME else f" up to a factor of {factor:.3g}"
    return words + (" but for smoothing where nothing is there or predicted" if differ(everywhere) else "")
