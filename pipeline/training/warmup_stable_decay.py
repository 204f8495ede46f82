"""A schedule whose constant part can be left at any step: warm-up, constant, linear decay.

From one training with this schedule, shorter ones can be forked: each takes over the weights at the end of its own
constant part and decays from there, as if it had been trained on its own.

Source: Hu et al., MiniCPM: Unveiling the potential of small language models with scalable training strategies, 2024;
Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations, 2024.
"""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

WARM_UP_SHARE = 0.15
"""Largest share of the steps over which the learning rate rises."""

DECAY_SHARE = 0.4
"""Share of the steps over which it falls (`benchmarks/forked_decays.py`)."""

LARGEST_MOMENTUM, SMALLEST_MOMENTUM = 0.95, 0.85
"""Momentum at a learning rate of 0 and at the largest one, as in torch's ``OneCycleLR``."""


def decay_start(steps: int) -> int:
    """Return the step at which a training of `steps` begins to decay.

    Examples
    --------
    >>> from pipeline.training.warmup_stable_decay import decay_start
    >>> decay_start(100), decay_start(800)
    (60, 480)
    """
    return steps - max(1, round(DECAY_SHARE * steps))


class WarmupStableDecay(LRScheduler):
    """Learning rate and momentum of each step, for `steps` steps in all.

    Parameters
    ----------
    optimizer
        Its learning rate and, if it has one, its momentum are changed after each step.
    max_lr
        Learning rate of the constant part.
    total_steps
        Optimizer steps of the training.
    warm_up_steps
        Steps over which the learning rate rises; at most `WARM_UP_SHARE` of all steps.
    last_epoch
        Steps before the first one less 1, as in all schedules of torch.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_lr: float,
        total_steps: int,
        warm_up_steps: int | None = None,
        last_epoch: int = -1,
    ) -> None:
        self.max_lr, self.total_steps = max_lr, total_steps
        most = max(1, round(WARM_UP_SHARE * total_steps))
        self.warm_up_steps = most if warm_up_steps is None else min(warm_up_steps, most)
        super().__init__(optimizer, last_epoch)

    @property
    def factor(self) -> float:
        """Share of the largest learning rate at the present step."""
        rising = (self.last_epoch + 1) / self.warm_up_steps
        falling = (self.total_steps - self.last_epoch) / (self.total_steps - decay_start(self.total_steps))
        return max(0.0, min(1.0, rising, falling))

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each group, and set its momentum."""
        factor = self.factor
        momentum = LARGEST_MOMENTUM - (LARGEST_MOMENTUM - SMALLEST_MOMENTUM) * factor
        for group in self.optimizer.param_groups:
            _set_momentum(group, momentum)
        return [self.max_lr * factor for _ in self.optimizer.param_groups]


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    elif "momentum" in group:
        group["momentum"] = momentum
