"""Preflight of a study: problems of its losses, detected in seconds on small synthetic patches.

Two losses whose gradients are parallel on all patches train alike, whatever their names. A term without a share of the
gradient trains nothing. `pipeline.losses.synthetic_gradients` makes the patches and computes the gradients.
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
from pipeline.losses.synthetic_gradients import (
    SAME_GRADIENT,
    LossGradients,
    SyntheticBatch,
    equivalence,
    loss_gradients,
    synthetic_batches,
    term_gradients,
)

Kind = Literal["dead_term", "no_effect", "same_function", "no_gradient", "extreme_weights", "not_finite"]
Severity = Literal["warning", "note"]

NEGLIGIBLE_SHARE = 1e-3
"""A term is dead if its share of the gradient's norm is below this on every batch with foreground."""

NO_GRADIENT_SHARE = 1e-4
"""A patch gives no gradient if its norm is below this share of the norm on a patch with foreground."""

EXTREME_WEIGHTS_RATIO = 100.0
"""Largest ratio of two class weights without a warning."""


@dataclass(frozen=True, slots=True)
class PreflightWarning:
    """One finding about an arm that the user should know before days of training.

    Attributes
    ----------
    arm
        Label of the loss, or several labels with commas for a note that holds for all of them.
    kind
        Machine-readable kind of the finding.
    problem, remedy
        What was detected, and how to change it.
    severity
        A "note" states a property of the loss itself. A "warning" is caused by its arguments, or by another loss of the
        study.
    """

    arm: str
    kind: Kind
    problem: str
    remedy: str
    severity: Severity = "warning"

    def line(self) -> str:
        """Return the finding in one line, as errors are printed."""
        return f"{self.severity}: {self.arm}: {self.problem}; {self.remedy}".replace("\n", " ")


def preflight(
    specs: Sequence[LossSpec], class_voxels: Sequence[int], plan: Plan | None = None, seed: int = 0
) -> tuple[PreflightWarning, ...]:
    """Return the findings about the losses of a study, warnings before notes, in the order of the losses.

    Parameters
    ----------
    specs
        The arms.
    class_voxels
        Voxels of each class in the training labels, background first.
    plan
        Gives the edges of the patches, which are cut to 16 voxels; without a plan patches are 16 x 16 x 16.
    seed
        Selects the random stream of the patches.

    Raises
    ------
    ConfigError
        If a loss cannot be built, computed or differentiated for this number of classes.

    Examples
    --------
    >>> from pipeline.losses import parse_losses
    >>> from pipeline.losses.preflight import preflight
    >>> for finding in preflight(parse_losses("ce,topk_ce{k=1}"), class_voxels=(9000, 1000)):
    ...     print(finding.arm, finding.kind, finding.problem)
    topk_ce-k=1 same_function is the same function as ce
    """
    batches = synthetic_batches(class_voxels, plan, seed)
    arms = [loss_gradients(spec, class_voxels, batches) for spec in specs]
    findings: list[PreflightWarning] = []
    for arm in arms:
        findings += _not_finite(arm)
        findings += _dead_terms(arm, batches)
        findings += _arguments_without_effect(arm, class_voxels, batches)
        findings += _class_weights(arm, len(class_voxels))
    findings += _same_functions(arms)
    findings += _no_gradient_without_foreground(arms, class_voxels, batches)
    return tuple(sorted(findings, key=lambda finding: finding.severity == "note"))


def _not_finite(arm: LossGradients) -> Iterator[PreflightWarning]:
    if not all(bool(torch.isfinite(gradient).all()) for gradient in arm.gradients):
        yield PreflightWarning(
            arm.spec.label,
            "not_finite",
            "its gradient is not finite on some patches (early, late, or without foreground)",
            "add a smoothing term or leave the loss out; its runs would collapse",
        )


def _dead_terms(arm: LossGradients, batches: Sequence[SyntheticBatch]) -> Iterator[PreflightWarning]:
    for name, gradients in term_gradients(arm, batches):
        shares = [
            float(part.norm() / whole.norm().clamp_min(1e-30))
            for part, whole, batch in zip(gradients, arm.gradients, batches, strict=True)
            if batch.has_foreground
        ]
        if max(shares) < NEGLIGIBLE_SHARE:
            little = "nothing" if max(shares) == 0 else f"less than {NEGLIGIBLE_SHARE:.1%}"
            yield PreflightWarning(
                arm.spec.label,
                "dead_term",
                f"its term {name} contributes {little} to the gradient",
                "increase the term's factor, or use the loss without it",
            )


def _arguments_without_effect(
    arm: LossGradients, class_voxels: Sequence[int], batches: Sequence[SyntheticBatch]
) -> Iterator[PreflightWarning]:
    for name in arm.spec.arguments:
        others = {key: value for key, value in arm.spec.arguments.items() if key != name}
        try:
            without = loss_gradients(LossSpec(arm.spec.name, others), class_voxels, batches)
        except ConfigError:
            continue  # the argument is required
        qualification = equivalence(arm, without)
        if qualification is not None:
            text = LossSpec("", {name: arm.spec.arguments[name]}).text.strip("{}")
            yield PreflightWarning(
                arm.spec.label,
                "no_effect",
                f"{text} has no effect: without it the loss is the same{qualification}",
                "leave it out, or give another value",
            )


def _class_weights(arm: LossGradients, classes: int) -> Iterator[PreflightWarning]:
    """Yield findings about the class weights of a loss: weights of 0, extreme ratios, or equal weights."""
    for weights in _weight_vectors(arm.loss, classes):
        low, high = min(weights), max(weights)
        if low <= 0:
            unused = [str(index + classes - len(weights)) for index, weight in enumerate(weights) if weight <= 0]
            yield PreflightWarning(
                arm.spec.label,
                "extreme_weights",
                f"class {', '.join(unused)} has the weight 0, so its voxels do not contribute",
                "give it a weight above 0",
            )
        elif high / low > EXTREME_WEIGHTS_RATIO:
            yield PreflightWarning(
                arm.spec.label,
                "extreme_weights",
                f"its class weights differ by {high / low:.0f}:1, at which cross entropy is known to collapse",
                "cap them, e.g. cap=50, or use the default policy",
            )
        elif high / low < 1 + SAME_GRADIENT:
            yield PreflightWarning(
                arm.spec.label,
                "no_effect",
                "its class weights are all equal and have no effect",
                "use the loss without weights, or give another policy or other weights",
            )


def _weight_vectors(loss: nn.Module, classes: int) -> Iterator[tuple[float, ...]]:
    """Yield each vector of class weights in the modules of a loss once, with or without the background."""
    vectors = set()
    for module in loss.modules():
        for name in ("weight", "weights", "class_weight", "class_weights", "pos_weight"):
            value = getattr(module, name, None)
            # A parameter named "weight" belongs to a layer of a user's loss; class weights are not trained.
            if isinstance(value, nn.Parameter) or not _is_vector(value):
                continue
            values = torch.as_tensor(value).detach().double()
            if values.ndim == 1 and values.numel() in (classes, classes - 1) and values.numel() > 1:
                vectors.add(tuple(values.tolist()))
    yield from sorted(vectors)


def _is_vector(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    return isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value)


def _same_functions(arms: Sequence[LossGradients]) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm that equals an earlier one; control arms are intended to do so."""
    reported: set[str] = set()
    for earlier, later in combinations((arm for arm in arms if not arm.spec.control), 2):
        qualification = equivalence(later, earlier)
        if later.spec.label not in reported and qualification is not None:
            reported.add(later.spec.label)
            yield PreflightWarning(
                later.spec.label,
                "same_function",
                f"is the same function as {earlier.spec.label}{qualification}",
                "leave out one of them, unless the study is to measure its own noise",
            )


def _no_gradient_without_foreground(
    arms: Sequence[LossGradients], class_voxels: Sequence[int], batches: Sequence[SyntheticBatch]
) -> Iterator[PreflightWarning]:
    """Yield a warning for each arm whose arguments remove its gradient on empty patches, and one note for all others.

    The second patch of the first batch is empty.
    """

    def no_gradient(arm: LossGradients) -> bool:
        full, empty = (float(gradient.norm()) for gradient in arm.gradients[0])
        return full > 0 and empty < NO_GRADIENT_SHARE * full

    def without_arguments(spec: LossSpec) -> bool:
        return spec.name in CATALOGUE and no_gradient(loss_gradients(LossSpec(spec.name), class_voxels, batches))

    by_definition = []
    for arm in filter(no_gradient, arms):
        if without_arguments(arm.spec):
            by_definition.append(arm.spec.label)
        else:
            yield PreflightWarning(
                arm.spec.label,
                "no_gradient",
                "is constant on patches without foreground, so that they do not contribute",
                "include the background, or add cross entropy",
            )
    if by_definition:
        yield PreflightWarning(
            ", ".join(by_definition),
            "no_gradient",
            f"by definition {'has' if len(by_definition) == 1 else 'have'} no gradient on patches without foreground",
            "false positives there have no cost; a sum with cross entropy, such as dice_ce, penalizes them",
            "note",
        )
