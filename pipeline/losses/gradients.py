"""Gradients of cross entropy and of both Dice forms, from formulas and from automatic differentiation.

p is the predicted probability of the foreground, t its truth. Dice here is the coefficient, not 1 minus the
coefficient, as in the formulas that are usually quoted. Its gradient is positive where a larger p is better.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.losses import LossSpec, build_loss

Numbers = NDArray[np.float64]

PATCH_EDGE = 16
"""Edge in voxels of the patch around the structure whose size varies."""

PROBABILITY_INSIDE = 0.1
"""Predicted probability inside the structure whose size varies; most of it is still missed."""


@dataclass(frozen=True)
class Curve:
    """A gradient over one variable, in closed form and by autograd.

    Attributes
    ----------
    label
        Label in the legend.
    x, y
        The closed form, drawn as a line.
    at, autograd
        Points at which autograd was evaluated, and its gradients.
    closed_form
        Function that maps x to y.
    """

    label: str
    x: Numbers
    y: Numbers
    at: Numbers
    autograd: Numbers
    closed_form: Callable[[Numbers], Numbers]


@dataclass(frozen=True)
class Panel:
    """Curves that share axes, with the texts of the figure."""

    title: str
    formula: str
    x_label: str
    y_label: str
    remark: str
    curves: tuple[Curve, ...]


def cross_entropy_gradient(p: Numbers, t: float) -> Numbers:
    """Return the gradient of one voxel's cross entropy with respect to its logit.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.losses.gradients import cross_entropy_gradient
    >>> cross_entropy_gradient(np.array([0.5, 1.0]), t=1.0).tolist()
    [-0.5, 0.0]
    """
    return p - t


def dice_gradient(p: Numbers, t: float) -> Numbers:
    """Return the gradient of 2pt / (p + t) with respect to p, which is never above 2.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.losses.gradients import dice_gradient
    >>> dice_gradient(np.array([0.0, 0.01]), t=0.01).tolist()
    [2.0, 0.5]
    """
    return 2 * t**2 / (p + t) ** 2


def dice_squared_gradient(p: Numbers, t: float) -> Numbers:
    """Return the gradient of 2pt / (p² + t²) with respect to p, which reaches 2 / t at p = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.losses.gradients import dice_squared_gradient
    >>> dice_squared_gradient(np.array([0.0, 0.01]), t=0.01).round(6).tolist()
    [200.0, 0.0]
    """
    return 2 * t * (t**2 - p**2) / (p**2 + t**2) ** 2


def gradient_panels() -> tuple[Panel, ...]:
    """Return the four panels of the figure, in reading order."""
    p = np.linspace(0.001, 0.999, 400)
    wide = np.logspace(-4, 0, 400)
    at, at_wide = np.linspace(0.02, 0.98, 13), np.logspace(-4, 0, 13)
    truths = (0.001, 0.01, 0.1, 1.0)
    return (
        Panel(
            "Cross entropy",
            "∂/∂z = p - t",
            "p",
            "gradient by the logit",
            "a straight line within ±1",
            tuple(
                _curve(f"t = {t:g}", p, at, partial(cross_entropy_gradient, t=t), _autograd_cross_entropy(at, t))
                for t in (0.0, 0.25, 0.5, 1.0)
            ),
        ),
        Panel(
            "Dice, p + t",
            "∂/∂p 2pt/(p+t) = 2t²/(p+t)²",
            "p",
            "gradient by p",
            "at most 2; where p and t are both small it\nfalls from 2 toward 0 over a change of size t",
            tuple(
                _curve(f"t = {t:g}", wide, at_wide, partial(dice_gradient, t=t), _autograd_overlap("dice", at_wide, t))
                for t in truths
            ),
        ),
        Panel(
            "Dice, p² + t²",
            "∂/∂p 2pt/(p²+t²) = 2t(t²-p²)/(p²+t²)²",
            "p",
            "gradient by p",
            "reaches 2/t where p and t are both small,\nand becomes negative where p > t",
            tuple(
                _curve(
                    f"t = {t:g}",
                    wide,
                    at_wide,
                    partial(dice_squared_gradient, t=t),
                    _autograd_overlap("dice_squared", at_wide, t),
                )
                for t in truths
            ),
        ),
        _size_panel(),
    )


def _size_panel() -> Panel:
    """Return the panel of the gradient at one voxel of a structure of n voxels, with respect to its logit."""
    q, patch = PROBABILITY_INSIDE, PATCH_EDGE**3
    n, at = np.logspace(0, np.log10(patch), 200), np.array([1.0, 4, 16, 64, 256, 1024, 4096])
    through_softmax = q * (1 - q)
    closed: dict[str, Callable[[Numbers], Numbers]] = {
        "ce": lambda n: np.full_like(n, (1 - q) / patch),
        "dice": lambda n: through_softmax * 2 / (n * (1 + q) ** 2),
        "dice_squared": lambda n: through_softmax * 2 * (1 - q**2) / (n * (1 + q**2) ** 2),
    }
    return Panel(
        "A structure of n voxels, mostly missed",
        f"p = {q:g} inside, 0 outside; patch of {PATCH_EDGE}³ voxels",
        "n",
        "size of the gradient by one logit inside",
        "Dice: proportional to 1/n, so largest where the\nstructure is small; cross entropy: 1/patch size",
        tuple(_curve(name, n, at, form, _autograd_structure(name, at)) for name, form in closed.items()),
    )


def _curve(label: str, x: Numbers, at: Numbers, form: Callable[[Numbers], Numbers], autograd: Numbers) -> Curve:
    return Curve(label, x, form(x), at, autograd, form)


def _autograd_cross_entropy(p: Numbers, t: float) -> Numbers:
    foreground = torch.logit(torch.tensor(p)).requires_grad_()
    logits = torch.stack([torch.zeros_like(foreground), foreground], dim=1)
    truth = torch.tensor([1 - t, t], dtype=torch.float64).expand(len(p), 2)
    functional.cross_entropy(logits, truth, reduction="sum").backward()
    return _gradient(foreground)


def _autograd_overlap(name: str, p: Numbers, t: float) -> Numbers:
    """Return autograd's gradient with respect to p of the loss that studies build, without smoothing.

    Each probability is an image of one voxel.
    """
    exact = {"smooth_nr": 0.0, "smooth_dr": 0.0, "softmax": False, "to_onehot_y": False, "reduction": "sum"}
    loss = build_loss(LossSpec(name, exact), [1, 1])
    foreground = torch.tensor(p, requires_grad=True)
    probabilities = torch.stack([1 - foreground, foreground], dim=1)[..., None, None, None]
    truth = torch.tensor([1 - t, t], dtype=torch.float64).expand(len(p), 2)[..., None, None, None]
    (len(p) - loss(probabilities, truth)).backward()
    return _gradient(foreground)


def _autograd_structure(name: str, sizes: Numbers) -> Numbers:
    """Return autograd's gradient at the first voxel of structures of the given sizes, by its logit.

    The loss is that of a training, softmax and smoothing included.
    """
    loss = build_loss(LossSpec(name), [1, 1])
    gradients = []
    for size in sizes.astype(int):
        target = torch.zeros(1, 1, PATCH_EDGE, PATCH_EDGE, PATCH_EDGE, dtype=torch.long)
        target.view(-1)[:size] = 1
        inside = torch.logit(torch.tensor(PROBABILITY_INSIDE, dtype=torch.float64))
        foreground = torch.where(target == 1, inside, -60.0).requires_grad_()
        loss(torch.cat([torch.zeros_like(foreground), foreground], dim=1), target).backward()
        gradients.append(-_gradient(foreground).reshape(-1)[0])
    return np.array(gradients)


def _gradient(leaf: torch.Tensor) -> Numbers:
    assert leaf.grad is not None
    values: Numbers = leaf.grad.numpy().astype(np.float64)
    return values
