"""The Ignite handlers of a training step: check of the loss, gradient statistics and clipping, average of weights."""

import math
from collections.abc import Callable
from typing import cast

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import nn

from pipeline.network.deep_supervision import full_resolution
from pipeline.records.events import TrainEvent
from pipeline.training.state import NonFiniteError, Training

MAXIMUM_GRADIENT_NORM = 12.0
"""Gradients are clipped to this norm, as in nnU-Net."""

EVENT_INTERVAL = 10
"""Steps between two events of a training."""


def average_decay(steps: int) -> float:
    """Return the decay of the moving average of weights, which looks back over a fiftieth of the training.

    Examples
    --------
    >>> from pipeline.training.handlers import average_decay
    >>> average_decay(1000), average_decay(10)
    (0.95, 0.5)
    """
    return 1 - 1 / max(2.0, steps / 50)


class StopOnNonFiniteLoss:
    """Raise `NonFiniteError` before the backward pass of a step whose loss is NaN or infinite.

    Reading a loss makes the CPU wait for the GPU. On a GPU each loss is therefore read one step later, by when it is
    known, except in steps with an event, which wait anyway.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.unchecked: list[tuple[int, torch.Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Register the check after each computation of the loss."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the loss of this step or, on a GPU, of the one before."""
        step = self.training.step + 1
        self.unchecked.append((step, _output(engine)[CommonKeys.LOSS].detach()))
        one_step_later = self.training.device.type == "cuda" and not has_event(step, self.training.steps)
        while len(self.unchecked) > one_step_later:
            step, loss = self.unchecked.pop(0)
            if not math.isfinite(float(loss)):
                raise NonFiniteError("the loss", step)


def has_event(step: int, steps: int) -> bool:
    """Return whether a training of `steps` appends an event after `step`: every ten steps, and at the end.

    Examples
    --------
    >>> from pipeline.training.handlers import has_event
    >>> [step for step in range(1, 26) if has_event(step, steps=25)]
    [10, 20, 25]
    """
    return step % EVENT_INTERVAL == 0 or step == steps


class GradientRecorder:
    """Clip gradients, and report loss, learning rate and statistics of the gradients every ten steps.

    Fields of the event: `gradient_norm` is the mean over the steps of the norm over all weights before clipping, and
    `gradient_norm_max` the largest one. `gradient_agreement` is the cosine between the gradients of the last two steps,
    which saw different batches. `logit_gradient_norm` and `logit_gradient_foreground` (share of the absolute gradient
    on foreground voxels) are those of the last step, at full resolution.
    """

    def __init__(self, training: Training, on_event: Callable[[TrainEvent], None]) -> None:
        self.training, self.on_event = training, on_event
        self.parameters = list(training.network.parameters())
        self.agreement: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register handlers after the forward pass, the backward pass and each step."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.retain_logit_gradient)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.clip)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    @property
    def _event_is_due(self) -> bool:
        # `training.step` is increased by a later handler, after this step is complete.
        return has_event(self.training.step + 1, self.training.steps)

    def retain_logit_gradient(self, engine: Engine) -> None:
        """Retain the gradient of the logits in steps with an event; autograd discards it otherwise."""
        if self._event_is_due:
            full_resolution(_output(engine)[CommonKeys.PRED]).retain_grad()

    def clip(self, engine: Engine) -> None:
        """Clip the gradients of the weights, and store their norm and, in steps with an event, their agreement."""
        pending = self.training.pending
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self._event_is_due:
            previous = pending.previous_gradients
            self.agreement = _cosine(previous, gradients) if previous else None
        event_is_next = has_event(self.training.step + 2, self.training.steps)
        pending.previous_gradients = [gradient.clone() for gradient in gradients] if event_is_next else []
        pending.norms.append(nn.utils.clip_grad_norm_(self.parameters, MAXIMUM_GRADIENT_NORM))
        pending.losses.append(_output(engine)[CommonKeys.LOSS].detach())

    def __call__(self, engine: Engine) -> None:
        """Report the statistics since the last event, if one is due."""
        if not self._event_is_due:
            return
        pending = self.training.pending
        gradient = full_resolution(_output(engine)[CommonKeys.PRED]).grad
        share = None
        losses, norms = (torch.stack(values).tolist() for values in (pending.losses, pending.norms))
        if gradient is not None:
            size = gradient.abs().sum(1, keepdim=True)
            foreground = _output(engine)[CommonKeys.LABEL] > 0
            share = float(size[foreground].sum() / size.sum().clamp_min(1e-30))
        self.on_event(
            TrainEvent(
                step=self.training.step + 1,
                loss=sum(losses) / len(losses),
                learning_rate=float(self.training.schedule.get_last_lr()[0]),
                gradient_norm=sum(norms) / len(norms),
                gradient_norm_max=max(norms),
                gradient_agreement=self.agreement,
                logit_gradient_norm=None if gradient is None else float(gradient.norm()),
                logit_gradient_foreground=share,
                seconds=self.training.seconds,
            )
        )
        pending.losses, pending.norms = [], []


def _output(engine: Engine) -> dict[str, torch.Tensor]:
    """Return the tensors of the present step that MONAI's engine provides, by `CommonKeys`."""
    return cast("dict[str, torch.Tensor]", engine.state.output)


def _cosine(first: list[torch.Tensor], second: list[torch.Tensor]) -> float | None:
    """Return the cosine between two gradients over all weights, or None if one of them is zero."""
    dots = torch.stack([torch.dot(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True)])
    size = math.prod(float(nn.utils.get_total_norm(part)) for part in (first, second))
    return float(dots.sum()) / size if size > 0 else None


class WeightAverage:
    """Update the exponential moving average of the weights after each step; without averaging, copy the weights.

    It does the same as ``AveragedModel.update_parameters``, which costs milliseconds per step, since it collects all
    weights anew each time.

    Buffers of floating-point numbers, such as the statistics of a batch normalization, are averaged like the weights:
    to first order, the statistics of averaged weights are the average of the statistics. Other buffers are copied.
    """

    def __init__(self, training: Training) -> None:
        self.counter = training.average.n_averaged
        self.averages, self.counts = _weights_and_counts(training.averaged_network)
        self.weights, self.present_counts = _weights_and_counts(training.network)
        self.decay = average_decay(training.steps) if training.weight_average else 0.0

    def attach(self, engine: Engine) -> None:
        """Register the update after each step."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Add the weights after this step to the average, or replace it."""
        if int(self.counter) == 0 or self.decay == 0:
            torch._foreach_copy_(self.averages, self.weights)
        else:
            torch._foreach_lerp_(self.averages, self.weights, 1 - self.decay)
        if self.counts:
            torch._foreach_copy_(self.counts, self.present_counts)
        self.counter += 1


def _weights_and_counts(network: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the weights and the other floating-point tensors of a network, and its buffers of integers."""
    buffers = list(network.buffers())
    weights = [parameter.detach() for parameter in network.parameters()]
    return (
        weights + [buffer for buffer in buffers if buffer.is_floating_point()],
        [buffer for buffer in buffers if not buffer.is_floating_point()],
    )
