"""The optimizer: Muon for hidden convolutions, AdamW for all other weights.

AdamW scales the step of each weight on its own. Muon treats the weights of a layer as one matrix and steps along the
nearest matrix with orthonormal rows, so that directions with small gradients move as far as all others. Neither depends
on the scale of a loss.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypedDict, cast

import torch
from torch import nn
from torch.optim.adamw import adamw

from pipeline.network.cuda_graphs import CudaGraphFunction

OPTIMIZER = "Muon and AdamW"
"""Name of the optimizer in a study's settings."""

HIDDEN_CHANNELS = 8
"""Muon optimizes convolutions with at least this many inputs and outputs: not the first and the last, which have too
few rows to make orthogonal.
"""

WEIGHT_DECAY = 1e-2
"""Decay of all weights per unit of learning rate, decoupled from the gradients."""

ADAM_STEP_RMS = 0.2
"""Typical root mean square of a step of Adam in units of the learning rate. Muon's steps are scaled to the same size
(Liu et al. 2025, arXiv:2502.16982), so that one learning rate serves both.
"""

NEWTON_SCHULZ_ITERATIONS = 5
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of the polynomial a x + b x³ + c x⁵, which is applied to every singular value x in 0..1.

They do not converge to 1 but were chosen for speed: after five iterations all values but the smallest are between about
0.7 and 1.2, which trains as well as exact orthogonality (Jordan et al. 2024).
"""


class ParameterGroup(TypedDict):
    """A group of weights with its settings, as torch's optimizers hold it."""

    params: list[nn.Parameter]
    muon: bool
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) with AdamW (Loshchilov and Hutter 2019).

    The first of ``betas`` is the momentum of both, so that ``OneCycleLR`` cycles it.

    Parameters
    ----------
    parameters
        Weights of the network. Muon optimizes those of convolutions with at least `HIDDEN_CHANNELS` inputs and outputs.
    learning_rate
        Learning rate of both. Weights of either move by about `ADAM_STEP_RMS` times the learning rate per step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        hidden: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for parameter in parameters:
            is_hidden = parameter.ndim > 2 and min(parameter.shape[:2]) >= HIDDEN_CHANNELS
            (hidden if is_hidden else others).append(parameter)
        defaults = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": WEIGHT_DECAY}
        groups = [{"params": others, "muon": False}, {"params": hidden, "muon": True}]
        super().__init__([group for group in groups if group["params"]], defaults)
        self._muon_step = CudaGraphFunction(muon_step)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the weights that have gradients.

        Parameters
        ----------
        closure
            Computes the loss and its gradients first; optional.

        Returns
        -------
        float or None
            The result of `closure`, or None without one.
        """
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in cast("list[ParameterGroup]", self.param_groups):
            (self._step_muon if group["muon"] else self._step_adamw)(group)
        return loss

    def _step_muon(self, group: ParameterGroup) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["exp_avg"] = torch.zeros_like(weight)
        averages = [self.state[weight]["exp_avg"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._muon_step(
            (weights, gradients, averages), group["betas"][0], group["lr"], group["lr"] * group["weight_decay"]
        )

    def _step_adamw(self, group: ParameterGroup) -> None:
        weights = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in weights:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in weights]
        adamw(
            cast("list[torch.Tensor]", weights),
            [parameter.grad for parameter in weights if parameter.grad is not None],
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
    """Move weights, and the moving averages of their gradients, by one step of Muon with Nesterov momentum.

    All lists have one order, and their tensors change in place. Numbers are tensors during the capture of a CUDA graph.

    Parameters
    ----------
    weights, gradients, averages
        Weights (outputs, inputs, *kernel), their gradients, and the moving averages of the gradients.
    momentum
        Decay of the averages.
    rate
        Learning rate.
    decay
        Share of the weights that is subtracted.
    """
    new = torch._foreach_mul(gradients, 1 - momentum)
    torch._foreach_mul_(averages, momentum)
    torch._foreach_add_(averages, new)
    torch._foreach_add_(new, torch._foreach_mul(averages, momentum))
    # The kernel belongs to the columns: one row per output.
    steps = orthogonalized([direction.flatten(1) for direction in new])
    torch._foreach_mul_(steps, [ADAM_STEP_RMS * math.sqrt(max(step.shape)) for step in steps])
    torch._foreach_mul_(steps, rate)
    torch._foreach_mul_(weights, 1 - decay)
    torch._foreach_sub_(weights, [step.view_as(weight) for step, weight in zip(steps, weights, strict=True)])


def orthogonalized(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return approximately the nearest matrices with orthonormal rows or, where there are fewer, columns.

    Singular vectors stay, and singular values become 0.7 to 1.2. A matrix of zeros stays zero.

    The Newton-Schulz iteration runs on the Gram matrix of the shorter side. It applies the same polynomial to the
    singular values as on the matrix itself, but multiplies the long side twice instead of ten times. Gram matrices of
    one size are multiplied in one call, since each is too small to occupy a GPU.

    Parameters
    ----------
    matrices
        Matrices (M, N) of any sizes, on one device.

    Examples
    --------
    >>> import torch
    >>> from pipeline.training.optimizer import orthogonalized
    >>> (matrix,) = orthogonalized([torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]])])
    >>> bool(((0.6 < matrix.diagonal()) & (matrix.diagonal() < 1.25)).all())
    True
    """
    norms = torch._foreach_norm(matrices)
    torch._foreach_clamp_min_(norms, 1e-20)
    # The Frobenius norm is at least the largest singular value, so that all of them are in 0..1.
    result = list(torch._foreach_div(matrices, norms))
    by_size: dict[int, list[int]] = {}
    for index, matrix in enumerate(result):
        by_size.setdefault(min(matrix.shape), []).append(index)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for size, indices in by_size.items():
        gram = torch.stack([_gram(result[index]) for index in indices])
        unit = torch.eye(size, dtype=gram.dtype, device=gram.device)
        product = unit.expand_as(gram)
        for _ in range(NEWTON_SCHULZ_ITERATIONS):
            polynomial = torch.baddbmm(a * unit + b * gram, gram, gram, alpha=c)
            product = polynomial @ product
            gram = polynomial @ gram @ polynomial
        for index, factor in zip(indices, product, strict=True):
            matrix = result[index]
            result[index] = factor @ matrix if len(matrix) == size else matrix @ factor
    return result


def _gram(matrix: torch.Tensor) -> torch.Tensor:
    """Return the inner products of all rows of a matrix (M, N), or of its columns where they are fewer."""
    rows, columns = matrix.shape
    return matrix @ matrix.t() if rows <= columns else matrix.t() @ matrix
