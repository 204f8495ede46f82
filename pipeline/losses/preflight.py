"""Preflight of a study: what is wrong with its losses, found in seconds on small made-up patches.

Two losses whose gradients are parallel on all patches train alike, whatever their names; a term whose part of the
gradient is nothing there trains nothing. `pipeline.losses.synthetic_gradients` makes the patches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.losses import CATALOGUE, LossSpec
from pipeline.losses.synthetic_gradients import SAME, Patches, ProbedLoss, likeness, make_patches, probe, terms_of

Kind = Literal["dead_term", "no_effect", "same_function", "no_gradient", "extreme_weights", "not_finite"]
Severity = Literal["warning", "note"]

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
    patches = make_patches(class_voxels, plan, seed)
    arms = [probe(spec, class_voxels, patches) for spec in specs]
    found: list[PreflightWarning] = []
    for arm in arms:
        found += _not_finite(arm)
        found += _dead_terms(arm, patches)
        found += _without_effect(arm, class_voxels, patches)
        found += _weights(arm, class_voxels)
    found += _same_functions(arms)
    found += _without_foreground(arms, class_voxels, patches)
    return tuple(sorted(found, key=lambda warning: warning.severity == "note"))


def _not_finite(arm: ProbedLoss) -> Iterator[PreflightWarning]:
    if not all(bool(torch.isfinite(gradient).all()) for gradient in arm.gradients):
        yield PreflightWarning(
            arm.spec.label,
            "not_finite",
            "its gradient is not finite on some patches (early, late, or without foreground)",
            "its runs will collapse; give it a smoothing term or leave it out",
        )


def _dead_terms(arm: ProbedLoss, patches: Sequence[Patches]) -> Iterator[PreflightWarning]:
    for name, gradients in terms_of(arm, patches):
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


def _without_effect(
    arm: ProbedLoss, class_voxels: Sequence[int], patches: Sequence[Patches]
) -> Iterator[PreflightWarning]:
    for name in arm.spec.arguments:
        others = {key: value for key, value in arm.spec.arguments.items() if key != name}
        try:
            without = probe(LossSpec(arm.spec.name, others), class_voxels, patches)
        except ConfigError:
            continue
        alike = likeness(arm, without)
        if alike is not None:
            text = LossSpec("", {name: arm.spec.arguments[name]}).spec.strip("{}")
            yield PreflightWarning(
                arm.spec.label,
                "no_effect",
                f"{text} has no effect: without it the loss is the same{alike}",
                "leave it out, or give another value",
            )


def _weights(arm: ProbedLoss, class_voxels: Sequence[int]) -> Iterator[PreflightWarning]:
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
            if isinstance(held, nn.Parameter) or not _is_vector(held):
                continue
            values = torch.as_tensor(held).detach().double()
            if values.ndim == 1 and values.numel() in (classes, classes - 1) and values.numel() > 1:
                seen.add(tuple(values.tolist()))
    yield from sorted(seen)


def _is_vector(held: object) -> bool:
    if isinstance(held, torch.Tensor):
        return True
    return isinstance(held, list | tuple) and all(isinstance(item, int | float) for item in held)


def _same_functions(arms: Sequence[ProbedLoss]) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm that an earlier one makes superfluous; control arms are meant to."""
    told: set[str] = set()
    for a, b in combinations((arm for arm in arms if not arm.spec.control), 2):
        alike = likeness(b, a)
        if b.spec.label not in told and alike is not None:
            told.add(b.spec.label)
            yield PreflightWarning(
                b.spec.label,
                "same_function",
                f"is the same function as {a.spec.label}{alike}",
                "leave one of them out, unless the study is to measure its own noise",
            )


def _without_foreground(
    arms: Sequence[ProbedLoss], class_voxels: Sequence[int], patches: Sequence[Patches]
) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm whose arguments stop its gradient on empty patches, one note for all others."""

    def learns_nothing(arm: ProbedLoss) -> bool:
        full, empty = (float(gradient.norm()) for gradient in arm.gradients[0])
        return full > 0 and empty < NOTHING * full

    def by_nature(spec: LossSpec) -> bool:
        return spec.name in CATALOGUE and learns_nothing(probe(LossSpec(spec.name), class_voxels, patches))

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
