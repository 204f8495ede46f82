"""Gradients of losses, and of their terms, on small synthetic patches.

The patches hold blobs of every class, about as frequent as in the dataset but never fewer than a few voxels. Their
logits are like those early and late in a training. One batch has an empty patch; the last batch is empty, and predicted
as empty.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.distance import INITIAL_BOUNDARY_WEIGHT, DiceAndBoundary
from pipeline.losses.overlap import UnifiedFocal
from pipeline.losses.progress import pass_progress
from pipeline.losses.registry import WeightedSum
from pipeline.system.random_streams import stream

LARGEST_EDGE = 16
"""Largest edge of a patch in voxels, so that a whole preflight takes seconds."""

FEWEST_VOXELS = 8
"""Smallest number of voxels of a class that the dataset contains."""

SAME_GRADIENT = 1e-3
"""Two gradients are the same if they differ by less than this share of their norm."""


@dataclass(frozen=True, slots=True)
class SyntheticBatch:
    """A batch of two patches.

    Attributes
    ----------
    logits
        Logits (2, C, X, Y, Z) of an imagined network.
    target
        Class indices (2, 1, X, Y, Z).
    progress
        Completed share of the training, 0 to 1, for losses with a schedule.
    has_foreground
        False for the last batch only, which contains no foreground and is predicted so.
    """

    logits: torch.Tensor
    target: torch.Tensor
    progress: float
    has_foreground: bool


@dataclass(frozen=True, slots=True)
class LossGradients:
    """A built loss and its gradients with respect to the logits, (2, C, X, Y, Z) for each batch."""

    spec: LossSpec
    loss: nn.Module
    gradients: tuple[torch.Tensor, ...]

    def flattened(self, batches: int) -> torch.Tensor:
        """Return the gradients of the first `batches` batches as one float64 vector."""
        return torch.cat([gradient.flatten() for gradient in self.gradients[:batches]]).double()


def synthetic_batches(class_voxels: Sequence[int], plan: Plan | None, seed: int) -> tuple[SyntheticBatch, ...]:
    """Return four batches, of which the last has no foreground.

    Their logits are, in order: early in a training, with an empty second patch; early; late; and a confident, correct
    prediction of nothing.

    Parameters
    ----------
    class_voxels
        Voxels of each class in the training labels, background first.
    plan
        Gives the edges of the patches, which are cut to 16 voxels; without a plan patches are 16 x 16 x 16.
    seed
        Selects the random stream.
    """
    shape = tuple(min(LARGEST_EDGE, edge) for edge in plan.patch) if plan else (LARGEST_EDGE,) * 3
    random = stream(seed, "preflight")
    target = torch.from_numpy(np.stack([_blobs(class_voxels, shape, random)[None] for _ in range(2)]))
    half_empty, empty = target.clone(), torch.zeros_like(target)
    half_empty[1] = 0

    def noise() -> torch.Tensor:
        return torch.from_numpy(random.standard_normal((2, len(class_voxels), *shape)).astype(np.float32))

    def truth(indices: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(indices[:, 0].long(), len(class_voxels)).movedim(-1, 1).float()

    return (
        SyntheticBatch(0.5 * noise(), half_empty, 0.0, True),
        SyntheticBatch(0.5 * noise(), target, 0.0, True),
        SyntheticBatch(4 * truth(target) + 1.5 * noise(), target, 1.0, True),
        SyntheticBatch(20 * truth(empty) + noise(), empty, 0.5, False),
    )


def _blobs(class_voxels: Sequence[int], shape: Sequence[int], random: np.random.Generator) -> NDArray[np.float32]:
    """Return class indices (X, Y, Z): each class, rarest first, covers the peaks of a smooth random field."""
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


def loss_gradients(spec: LossSpec, class_voxels: Sequence[int], batches: Sequence[SyntheticBatch]) -> LossGradients:
    """Build a loss and differentiate it on each batch.

    Raises
    ------
    ConfigError
        If the loss cannot be built, computed or differentiated for this number of classes.
    """
    loss = build_loss(spec, class_voxels)
    try:
        return LossGradients(spec, loss, gradients_on(loss, batches))
    except Exception as error:  # a user's own class may raise anything, and all of it is a wrong request
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ConfigError(
            f"--losses {spec.text}",
            f"could not be computed for {len(class_voxels)} classes ({reason})",
            "check its arguments; it is called with logits (B, C, X, Y, Z) and class indices (B, 1, X, Y, Z)",
        ) from error


def gradients_on(loss: nn.Module, batches: Sequence[SyntheticBatch]) -> tuple[torch.Tensor, ...]:
    """Return the gradient of a loss with respect to the logits of each batch, (2, C, X, Y, Z) each."""
    gradients = []
    for batch in batches:
        logits = batch.logits.clone().requires_grad_()
        pass_progress(loss, batch.progress)
        (gradient,) = torch.autograd.grad(loss(logits, batch.target), logits)
        gradients.append(gradient)
    return tuple(gradients)


def term_gradients(
    arm: LossGradients, batches: Sequence[SyntheticBatch]
) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
    """Yield the name of each term of a composite loss, and the term's part of the gradient on each batch.

    The part of a term is the gradient of the loss minus that of the loss without the term. A loss with a single term
    yields nothing.
    """
    inner: Any = arm.loss.inner

    def gradients_with(**attributes: Any) -> tuple[torch.Tensor, ...]:
        """Return the gradients of the loss with other attributes, which are restored afterwards."""
        before = {name: getattr(inner, name) for name in attributes}
        try:
            for name, value in attributes.items():
                setattr(inner, name, value)
            return gradients_on(arm.loss, batches)
        finally:
            for name, value in before.items():
                setattr(inner, name, value)

    def part(without_term: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(whole - rest for whole, rest in zip(arm.gradients, without_term, strict=True))

    if isinstance(inner, WeightedSum):
        for index, term in enumerate(inner.terms):
            factors = list(inner.factors)
            factors[index] = 0.0
            yield type(term).__name__.removesuffix("Loss"), part(gradients_with(factors=factors))
    elif isinstance(inner, DiceAndBoundary):
        yield "boundary", part(gradients_with(largest=INITIAL_BOUNDARY_WEIGHT))
    elif isinstance(inner, UnifiedFocal):
        yield "focal", tuple(inner.weight * gradient for gradient in gradients_with(weight=1.0))
        yield "focal Tversky", tuple((1 - inner.weight) * gradient for gradient in gradients_with(weight=0.0))
    else:
        # MONAI names the factors of its sums lambda_dice, lambda_ce and so on.
        for name in vars(inner):
            if name.startswith("lambda_") and isinstance(getattr(inner, name), int | float):
                yield name.removeprefix("lambda_").replace("_", " "), part(gradients_with(**{name: 0.0}))


def equivalence(a: LossGradients, b: LossGradients) -> str | None:
    """Return a qualification of "a is the same as b", or None if the losses differ.

    Two losses are the same if their gradients agree up to one positive factor on the batches with foreground. Muon and
    AdamW do not depend on the scale of a loss, so that such losses train alike.

    Returns
    -------
    str or None
        Empty if the gradients are equal; otherwise words that name the factor, and a difference on the empty batch.
    """
    with_foreground, everywhere = len(a.gradients) - 1, len(a.gradients)

    def differ(batches: int) -> bool:
        x, y = a.flattened(batches), b.flattened(batches)
        # Written with "not", so that norms of 0 or NaN count as a difference.
        return not float(x.norm()) * float(y.norm()) > 0 or float((x / x.norm() - y / y.norm()).norm()) > SAME_GRADIENT

    if differ(with_foreground):
        return None
    factor = float(a.flattened(with_foreground).norm() / b.flattened(with_foreground).norm())
    words = "" if abs(factor - 1) < SAME_GRADIENT else f" up to a factor of {factor:.3g}"
    return words + (
        " except for smoothing in patches without true or predicted foreground" if differ(everywhere) else ""
    )
