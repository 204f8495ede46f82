"""The optimiser: Muon for hidden convolutions, AdamW for everything else.

AdamW scales each weight's step by itself; Muon takes the weights of a layer as one matrix and steps along the nearest
matrix with orthogonal rows, so that directions in which gradients are small move as far as the others. With the same
steps that trains these networks further (docs/performance.md). Neither depends on the scale of a loss's gradients.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw

OPTIMIZER = "Muon and AdamW"
"""What a study's settings call it."""

HIDDEN_CHANNELS = 8
"""A convolution with fewer inputs or outputs (the first and the last) has no rows worth making orthogonal."""

WEIGHT_DECAY = 1e-2
"""Decoupled from the gradients, of all weights."""

STEP_OF_ADAM = 0.2
"""Root mean square of a step of Adam in units of the learning rate: Muon's is made as large (Liu et al. 2025)."""

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration: singular values end between about 0.7 and 1.2 (Jordan et al. 2024)."""


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) beside AdamW (Loshchilov and Hutter 2019).

    Parameters
    ----------
    parameters
        Convolutions' weights with at least `HIDDEN_CHANNELS` inputs and outputs are Muon's.
    learning_rate
        Of both; weights of either move about `STEP_OF_ADAM` times as far a step.

    The first of ``betas`` is the momentum of both, so that ``OneCycleLR`` cycles it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        hidden: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for parameter in parameters:
            found = parameter.ndim > 2 and min(parameter.shape[:2]) >= HIDDEN_CHANNELS
            (hidden if found else others).append(parameter)
        groups: list[dict[str, Any]] = [{"params": others, "muon": False}, {"params": hidden, "muon": True}]
        defaults = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": WEIGHT_DECAY}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients that there are; returns what `closure` does, None without one."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            (self._muon if group["muon"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        momentum, rate = group["betas"][0], group["lr"]
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["exp_avg"] = torch.zeros_like(weight)
            average = state["exp_avg"].lerp_(weight.grad, 1 - momentum)
            direction = orthogonalised(weight.grad.lerp(average, momentum).flatten(1))
            size = STEP_OF_ADAM * math.sqrt(max(direction.shape))
            weight.mul_(1 - rate * group["weight_decay"]).add_(direction.view_as(weight), alpha=-rate * size)

    def _adamw(self, group: dict[str, Any]) -> None:
        found = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in found:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in found]
        adamw(
            found,
            [parameter.grad for parameter in found],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """Return about the nearest matrix (M, N) whose shorter side is orthonormal; zeros of zeros.

    The iteration of Newton and Schulz on the Gram matrix of the shorter side, which is small: the same polynomial of
    the singular values as on the matrix itself, whose long side is multiplied twice instead of ten times.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalised(matrix.t()).t()
    wide = matrix / matrix.norm().clamp_min(1e-20)
    gram = wide @ wide.t()
    unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    first, second, third = COEFFICIENTS
    product = unit
    for _ in range(ITERATIONS):
        polynomial = first * unit + second * gram + third * (gram @ gram)
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    return product @ wide
