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

from pipeline.network.cuda_graphs import CudaGraphFunction

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
        self._replayed = CudaGraphFunction(muon_step)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients that there are; returns what `closure` does, None without one."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            (self._muon if group["muon"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["exp_avg"] = torch.zeros_like(weight)
        averages = [self.state[weight]["exp_avg"] for weight in weights]
        lists = weights, [weight.grad for weight in weights], averages
        self._replayed(lists, group["betas"][0], group["lr"], group["lr"] * group["weight_decay"])

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


Number = float | torch.Tensor


@torch.no_grad()
def muon_step(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    averages: list[torch.Tensor],
    momentum: Number,
    rate: Number,
    decay: Number,
) -> None:
    """Move weights, and the moving averages of their gradients, by one step of Muon."""
    new = torch._foreach_mul(gradients, 1 - momentum)
    torch._foreach_mul_(averages, momentum)
    torch._foreach_add_(averages, new)
    torch._foreach_add_(new, torch._foreach_mul(averages, momentum))
    steps = orthogonalised([direction.flatten(1) for direction in new])
    torch._foreach_mul_(steps, [STEP_OF_ADAM * math.sqrt(max(step.shape)) for step in steps])
    torch._foreach_mul_(steps, rate)
    torch._foreach_mul_(weights, 1 - decay)
    torch._foreach_sub_(weights, [step.view_as(weight) for step, weight in zip(steps, weights, strict=True)])


def orthogonalised(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return about the nearest matrices (M, N) whose shorter sides are orthonormal; zeros of zeros.

    The iteration of Newton and Schulz on the Gram matrix of the shorter side, which is small: the same polynomial of
    the singular values as on the matrix itself, whose long side is multiplied twice instead of ten times. Gram
    matrices of one size are multiplied at once, which a GPU needs.
    """
    norms = torch._foreach_norm(matrices)
    torch._foreach_clamp_min_(norms, 1e-20)
    found = list(torch._foreach_div(matrices, norms))
    by_size: dict[int, list[int]] = {}
    for index, matrix in enumerate(found):
        by_size.setdefault(min(matrix.shape), []).append(index)
    first, second, third = COEFFICIENTS
    for size, indices in by_size.items():
        gram = torch.stack([_gram(found[index]) for index in indices])
        unit = torch.eye(size, dtype=gram.dtype, device=gram.device)
        product = unit.expand_as(gram)
        for _ in range(ITERATIONS):
            polynomial = torch.baddbmm(first * unit + second * gram, gram, gram, alpha=third)
            product = polynomial @ product
            gram = polynomial @ gram @ polynomial
        for index, factor in zip(indices, product, strict=True):
            matrix = found[index]
            found[index] = factor @ matrix if len(matrix) == size else matrix @ factor
    return found


def _gram(matrix: torch.Tensor) -> torch.Tensor:
    """Return the products of the rows of a matrix with each other, or of its columns where they are fewer."""
    rows, columns = matrix.shape
    return matrix @ matrix.t() if rows <= columns else matrix.t() @ matrix
