"""Preflight of a study: what is wrong with its losses, found in seconds on small made-up patches.

The patches hold blobs of every class, about as frequent as in the dataset but never fewer than a few voxels, with
logits as early and late in a training, and one patch without foreground. Two losses whose gradients are parallel on all
of them train alike, whatever their names; a term whose part of the gradient is nothing there trains nothing.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.randomness import stream
from pipeline.training.losses import CATALOGUE, LossSpec, build_loss
from pipeline.training.losses.distance import DiceAndBoundary
from pipeline.training.losses.overlap import UnifiedFocal
from pipeline.training.losses.registry import Sum

Kind = Literal["dead_term", "no_effect", "same_function", "no_gradient", "extreme_weights", "not_finite"]
Severity = Literal["warning", "note"]

EDGE = 16
"""Patches are at most this long along each axis: the whole preflight takes seconds."""

FEWEST_VOXELS = 8
SAME = 1e-3
"""Two gradients are the same where they differ by less than this share of their norm."""

NEGLIGIBLE = 1e-3
"""A term is dead where its share of the gradient's norm is below this on every patch with foreground."""

NOTHING = 1e-4
"""A patch gives no gradient where its norm is below this share of that of a patch with foreground."""

EXTREME_WEIGHTS = 100.0
"""Largest ratio of two class weights without a warning."""


@dataclass(frozen=True, slots=True)
class PreflightWarning:
    """One thing about an arm that its user should know before days of training.

    `arm` is the label of the loss, or several with commas for a note that holds for all of them. A "note" says what is
    so by the nature of a loss, a "warning" what its arguments or its company in the study make of it.
    """

    arm: str
    kind: Kind
    problem: str
    remedy: str
    severity: Severity = "warning"

    def line(self) -> str:
        """Return it in one line, as errors are printed."""
        return f"{self.severity}: {self.arm}: {self.problem}; {self.remedy}".replace("\n", " ")


@dataclass(frozen=True, slots=True)
class _Patches:
    """A batch of two: logits (2, C, X, Y, Z), class indices (2, 1, X, Y, Z), and how far the training is.

    `has_foreground` is false for the last batch only, which is without, and confidently so.
    """

    logits: torch.Tensor
    target: torch.Tensor
    progress: float
    has_foreground: bool


@dataclass(frozen=True, slots=True)
class _Arm:
    """A built loss and its gradients (one (2, C, X, Y, Z) for each batch of patches)."""

    spec: LossSpec
    loss: nn.Module
    gradients: tuple[torch.Tensor, ...]

    def whole(self, batches: int) -> torch.Tensor:
        """Return the gradients of the first batches in one vector."""
        return torch.cat([gradient.flatten() for gradient in self.gradients[:batches]]).double()


def preflight(
    specs: Sequence[LossSpec], class_voxels: Sequence[int], plan: Plan | None = None, seed: int = 0
) -> tuple[PreflightWarning, ...]:
    """Return what is wrong with the losses of a study, warnings before notes, in the order of the losses.

    Parameters
    ----------
    specs
        The arms.
    class_voxels
        Voxels of each class in the training labels, background first.
    plan
        Gives the shape of the patches, cut to 16 voxels an axis; 16 x 16 x 16 without it.
    seed
        Of the made-up patches.

    Raises
    ------
    ConfigError
        Where a loss cannot be built, or not be computed or differentiated for this number of classes.
    """
    patches = _make_patches(class_voxels, plan, seed)
    arms = [_arm(spec, class_voxels, patches) for spec in specs]
    found: list[PreflightWarning] = []
    for arm in arms:
        found += _not_finite(arm)
        found += _dead_terms(arm, patches)
        found += _without_effect(arm, class_voxels, patches)
        found += _weights(arm, class_voxels)
    found += _same_functions(arms)
    found += _without_foreground(arms, class_voxels, patches)
    return tuple(sorted(found, key=lambda warning: warning.severity == "note"))


def _make_patches(class_voxels: Sequence[int], plan: Plan | None, seed: int) -> tuple[_Patches, ...]:
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
        _Patches(0.5 * noise(), half_empty, 0.0, True),
        _Patches(0.5 * noise(), target, 0.0, True),
        _Patches(4 * truth(target) + 1.5 * noise(), target, 1.0, True),
        _Patches(20 * truth(empty) + noise(), empty, 0.5, False),
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


def _arm(spec: LossSpec, class_voxels: Sequence[int], patches: Sequence[_Patches]) -> _Arm:
    loss = build_loss(spec, class_voxels)
    try:
        return _Arm(spec, loss, _gradients(loss, patches))
    except Exception as error:  # whatever a user's own class raises is a wrong request
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ConfigError(
            f"--losses {spec.spec}",
            f"cannot be computed for {len(class_voxels)} classes ({reason})",
            "it is called with logits (B, C, X, Y, Z) and class indices (B, 1, X, Y, Z); check its arguments",
        ) from error


def _gradients(loss: nn.Module, patches: Sequence[_Patches]) -> tuple[torch.Tensor, ...]:
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


def _not_finite(arm: _Arm) -> Iterator[PreflightWarning]:
    if not all(bool(torch.isfinite(gradient).all()) for gradient in arm.gradients):
        yield PreflightWarning(
            arm.spec.label,
            "not_finite",
            "its gradient is not finite on some patches (early, late, or without foreground)",
            "its runs will collapse; give it a smoothing term or leave it out",
        )


def _dead_terms(arm: _Arm, patches: Sequence[_Patches]) -> Iterator[PreflightWarning]:
    for name, gradients in _terms(arm, patches):
        shares = [
            float(part.norm() / whole.norm().clamp_min(1e-30))
            for part, whole, batch in zip(gradients, arm.gradients, patches, strict=True)
            if batch.has_foreground
        ]
        if max(shares) < NEGLIGIBLE:
            little = "nothing" if max(shares) == 0 else f"less than {NEGLIGIBLE:.1%}"
            yield PreflightWarning(
                arm.spec.label,
                "dead_term",
                f"its term {name} gives {little} of the gradient",
                "raise the term's factor, or name the loss without it",
            )


def _terms(arm: _Arm, patches: Sequence[_Patches]) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
    """Yield the terms of a loss that is a sum, each with its gradients."""
    inner: Any = arm.loss.inner

    def changed(loss: nn.Module, **attributes: Any) -> tuple[torch.Tensor, ...]:
        before = {name: getattr(loss, name) for name in attributes}
        try:
            for name, value in attributes.items():
                setattr(loss, name, value)
            return _gradients(arm.loss, patches)
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


def _likeness(a: _Arm, b: _Arm) -> str | None:
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


def _without_effect(arm: _Arm, class_voxels: Sequence[int], patches: Sequence[_Patches]) -> Iterator[PreflightWarning]:
    for name in arm.spec.arguments:
        others = {key: value for key, value in arm.spec.arguments.items() if key != name}
        try:
            without = _arm(LossSpec(arm.spec.name, others), class_voxels, patches)
        except ConfigError:
            continue
        likeness = _likeness(arm, without)
        if likeness is not None:
            text = LossSpec("", {name: arm.spec.arguments[name]}).spec.strip("{}")
            yield PreflightWarning(
                arm.spec.label,
                "no_effect",
                f"{text} has no effect: without it the loss is the same{likeness}",
                "leave it out, or give another value",
            )


def _weights(arm: _Arm, class_voxels: Sequence[int]) -> Iterator[PreflightWarning]:
    """Yield what is to be said of class weights that a loss holds: extreme ones, or all the same."""
    classes = len(class_voxels)
    for weights in _class_weights(arm.loss, classes):
        low, high = min(weights), max(weights)
        if low <= 0:
            unused = [str(index + classes - len(weights)) for index, weight in enumerate(weights) if weight <= 0]
            yield PreflightWarning(
                arm.spec.label,
                "extreme_weights",
                f"class {', '.join(unused)} has the weight 0, so its voxels teach nothing",
                "give it a weight above 0",
            )
        elif high / low > EXTREME_WEIGHTS:
            yield PreflightWarning(
                arm.spec.label,
                "extreme_weights",
                f"its class weights differ by {high / low:.0f}:1, with which cross entropy is known to collapse",
                "cap them, e.g. cap=50, or leave the policy to the default",
            )
        elif high / low < 1 + SAME:
            yield PreflightWarning(
                arm.spec.label,
                "no_effect",
                "its class weights are all the same, so that they change nothing",
                "name the loss without weights, or give another policy or other weights",
            )


def _class_weights(loss: nn.Module, classes: int) -> Iterator[tuple[float, ...]]:
    """Yield each vector of class weights that the modules of a loss hold, with or without the background, once."""
    seen = set()
    for module in loss.modules():
        for name in ("weight", "weights", "class_weight", "class_weights", "pos_weight"):
            held = getattr(module, name, None)
            if held is None or isinstance(held, nn.Parameter | str | int | float | bool):
                continue
            values = torch.as_tensor(held).detach().double()
            if values.ndim == 1 and values.numel() in (classes, classes - 1) and values.numel() > 1:
                seen.add(tuple(values.tolist()))
    yield from sorted(seen)


def _same_functions(arms: Sequence[_Arm]) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm that an earlier one makes superfluous; control arms are meant to."""
    told: set[str] = set()
    for a, b in combinations((arm for arm in arms if not arm.spec.control), 2):
        likeness = _likeness(b, a)
        if b.spec.label not in told and likeness is not None:
            told.add(b.spec.label)
            yield PreflightWarning(
                b.spec.label,
                "same_function",
                f"is the same function as {a.spec.label}{likeness}",
                "leave one of them out, unless the study is to measure its own noise",
            )


def _without_foreground(
    arms: Sequence[_Arm], class_voxels: Sequence[int], patches: Sequence[_Patches]
) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm whose arguments stop its gradient on empty patches, one note for all others."""

    def learns_nothing(arm: _Arm) -> bool:
        full, empty = (float(gradient.norm()) for gradient in arm.gradients[0])
        return full > 0 and empty < NOTHING * full

    def by_nature(spec: LossSpec) -> bool:
        return spec.name in CATALOGUE and learns_nothing(_arm(LossSpec(spec.name), class_voxels, patches))

    natural = []
    for arm in filter(learns_nothing, arms):
        if by_nature(arm.spec):
            natural.append(arm.spec.label)
        else:
            yield PreflightWarning(
                arm.spec.label,
                "no_gradient",
                "is constant on patches without foreground, so that they teach nothing",
                "keep the background in it, or add a cross entropy",
            )
    if natural:
        yield PreflightWarning(
            ", ".join(natural),
            "no_gradient",
            f"{'gets' if len(natural) == 1 else 'get'} by nature no gradient on patches without foreground",
            "false positives there cost nothing; a sum with cross entropy, such as dice_ce, sees them",
            "note",
        )
