"""Training one network for a number of steps: MONAI's `SupervisedTrainer` and one Ignite handler for each concern."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import LrScheduleHandler
from monai.utils import CommonKeys
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from pipeline.network.precision import Precision
from pipeline.network.prediction import training_inferer
from pipeline.records.events import TrainEvent
from pipeline.training.augmentation import Augmentation
from pipeline.training.optimizer import MuonAdamW
from pipeline.training.patch_sampling import Feed, FeedHash, batches

MAXIMUM_GRADIENT_NORM = 12.0
"""Gradients are clipped to this norm, as in nnU-Net."""

SCHEDULE = "one cycle"
"""Name of the learning-rate schedule in a study's settings."""

RECORD_EVERY = 10

logging.getLogger("ignite").setLevel(logging.CRITICAL)


class NonFinite(Exception):
    """The loss became NaN or infinite, or the network's output.

    On a CPU the weights are still those of the step before; on a GPU the step may have been taken.
    """

    def __init__(self, what: str, step: int) -> None:
        self.step = step
        super().__init__(f"{what} was not finite at step {step}")


@dataclass
class SinceRecord:
    """What the next record of a training is the mean of, and the gradients of the step before where it needs them."""

    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    before: list[torch.Tensor] = field(default_factory=list)


@dataclass
class Training:
    """Everything that changes while a network is trained, and so everything that a checkpoint holds."""

    network: nn.Module
    loss: nn.Module
    feed: Feed
    learning_rate: float
    steps: int
    precision: Precision
    device: torch.device
    step: int = 0
    hash: FeedHash = field(default_factory=FeedHash)
    seconds: float = 0.0
    since_record: "SinceRecord" = field(default_factory=lambda: SinceRecord())

    def __post_init__(self) -> None:
        self.network.to(self.device)
        self.loss.to(self.device)
        self.optimizer = MuonAdamW(self.network.parameters(), self.learning_rate)
        self.schedule = OneCycleLR(self.optimizer, self.learning_rate, total_steps=max(self.steps, 2), pct_start=0.15)
        self.average = AveragedModel(self.network)

    def state(self) -> dict[str, Any]:
        """Return all of it as tensors and plain values."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "feed_hash": self.hash.state,
            "seconds": self.seconds,
            "since_record": {name: list(getattr(self.since_record, name)) for name in ("losses", "norms", "before")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; the result is that of a training never interrupted."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.hash.state, self.seconds = state["step"], state["feed_hash"], state["seconds"]
        since = state["since_record"]
        parts = (since[name] for name in ("losses", "norms", "before"))
        self.since_record = SinceRecord(*([torch.as_tensor(one, device=self.device) for one in part] for part in parts))

    @property
    def averaged_network(self) -> nn.Module:
        """The network to validate and predict with."""
        return self.average.module


def seconds_now(device: torch.device) -> float:
    """Return the clock of a run: what its one thread has computed, so that runs which share a core count alike.

    With several threads or on a GPU it is the clock on the wall.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time() if alone else time.perf_counter()


def average_decay(steps: int) -> float:
    """Return the decay of the moving average of weights: a horizon of one fiftieth of the training."""
    return 1 - 1 / max(2.0, steps / 50)


def train(
    training: Training,
    *,
    interval: int,
    on_record: Callable[[TrainEvent], None] = lambda event: None,
    on_step: Callable[[int], None] = lambda step: None,
    on_interval: Callable[[Training], None] = lambda training: None,
) -> None:
    """Train from `training.step` to `training.steps`, calling `on_interval` after every `interval` steps.

    Raises
    ------
    NonFinite
        As soon as a loss value is not finite; the step is not taken.
    """
    remaining = training.steps - training.step
    if remaining <= 0:
        return
    _tell_progress(training)
    on_gpu = training.device.type == "cuda"
    augmentation = Augmentation(training.feed.plan, training.feed.seed, training.feed.fold)

    def prepare_batch(
        batch: dict[str, torch.Tensor], device: torch.device, non_blocking: bool, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        draw = int(batch["step"]) * training.feed.plan.batch
        image = batch["image"].to(device, non_blocking=non_blocking)
        label = batch["label"].to(device, non_blocking=non_blocking).float()
        image, label = augmentation(image, label, draw)
        training.hash.update(image, label)
        return image, label

    trainer = SupervisedTrainer(
        device=training.device,
        max_epochs=1,
        epoch_length=remaining,
        train_data_loader=batches(training.feed, training.step, training.steps, ahead=on_gpu),
        non_blocking=True,
        network=training.network,
        optimizer=training.optimizer,
        loss_function=training.loss,
        prepare_batch=prepare_batch,
        train_handlers=[
            StopOnNonFiniteLoss(training),
            GradientRecorder(training, on_record),
            LrScheduleHandler(cast("Any", training.schedule), print_lr=False, epoch_level=False),
            WeightAverage(training),
        ],
        decollate=False,
        optim_set_to_none=True,
    )
    started = seconds_now(training.device) - training.seconds

    @trainer.on(Events.ITERATION_COMPLETED)
    def _count(engine: Engine) -> None:
        training.step += 1
        training.seconds = seconds_now(training.device) - started
        _tell_progress(training)
        on_step(training.step)

    @trainer.on(Events.ITERATION_COMPLETED)
    def _pause(engine: Engine) -> None:
        nonlocal started
        if training.step % interval == 0 or training.step == training.steps:
            on_interval(training)
            started = seconds_now(training.device) - training.seconds

    shape = training.feed.batch_shape
    with training_inferer(training.network, shape, training.precision, training.device) as trainer.inferer:
        trainer.run()


class StopOnNonFiniteLoss:
    """Raise `NonFinite` before the backward pass of a step whose loss is NaN or infinite.

    On a GPU, which is not waited for at every step, before that of the next step or of one that is recorded.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.unchecked: list[tuple[int, torch.Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Check after each loss."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the loss of this step or, on a GPU, of the one before."""
        step = self.training.step + 1
        self.unchecked.append((step, _output(engine)[CommonKeys.LOSS].detach()))
        later = self.training.device.type == "cuda" and not is_recorded(step, self.training.steps)
        while len(self.unchecked) > later:
            step, loss = self.unchecked.pop(0)
            if not math.isfinite(float(loss)):
                raise NonFinite("the loss", step)


def is_recorded(step: int, steps: int) -> bool:
    """Whether a training records what it was like at `step`: every ten steps, and at the end."""
    return step % RECORD_EVERY == 0 or step == steps


class GradientRecorder:
    """Clip gradients and record, every ten steps, loss, learning rate and what the gradients were like.

    `gradient_norm` is the mean norm over the weights before clipping; `gradient_agreement` the cosine between the
    gradients of the last two steps, which saw different batches; `logit_gradient_norm` and
    `logit_gradient_foreground` (share of the absolute gradient on foreground voxels) are those of the last step.
    """

    def __init__(self, training: Training, on_record: Callable[[TrainEvent], None]) -> None:
        self.training, self.on_record = training, on_record
        self.parameters = list(training.network.parameters())
        self.agreement: float | None = None

    def attach(self, engine: Engine) -> None:
        """Act after the forward pass, the backward pass and each step."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.watch_logits)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.clip)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    @property
    def _due(self) -> bool:
        return is_recorded(self.training.step + 1, self.training.steps)

    def watch_logits(self, engine: Engine) -> None:
        """Keep the gradient of the logits in steps that are recorded."""
        if self._due:
            _output(engine)[CommonKeys.PRED].retain_grad()

    def clip(self, engine: Engine) -> None:
        """Clip the gradients of the weights, remembering their norm and, in steps recorded, their agreement."""
        since = self.training.since_record
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self._due:
            self.agreement = _cosine(since.before, gradients) if since.before else None
        soon = is_recorded(self.training.step + 2, self.training.steps)
        since.before = [gradient.clone() for gradient in gradients] if soon else []
        since.norms.append(nn.utils.clip_grad_norm_(self.parameters, MAXIMUM_GRADIENT_NORM))
        since.losses.append(_output(engine)[CommonKeys.LOSS].detach())

    def __call__(self, engine: Engine) -> None:
        """Record the means since the last record."""
        if not self._due:
            return
        since = self.training.since_record
        gradient = _output(engine)[CommonKeys.PRED].grad
        share = None
        losses, norms = (torch.stack(values).tolist() for values in (since.losses, since.norms))
        if gradient is not None:
            size = gradient.abs().sum(1, keepdim=True)
            foreground = _output(engine)[CommonKeys.LABEL] > 0
            share = float(size[foreground].sum() / size.sum().clamp_min(1e-30))
        self.on_record(
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
        since.losses, since.norms = [], []


def _output(engine: Engine) -> dict[str, Any]:
    """Return what MONAI's engine leaves of a step, by `CommonKeys`."""
    return cast("dict[str, Any]", engine.state.output)


def _cosine(first: list[torch.Tensor], second: list[torch.Tensor]) -> float | None:
    """Return the cosine between two gradients, None where one of them is zero."""
    dots = torch.stack([torch.dot(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True)])
    size = math.prod(float(nn.utils.get_total_norm(part)) for part in (first, second))
    return float(dots.sum()) / size if size > 0 else None


class WeightAverage:
    """Update the moving average of the weights after each step.

    As ``AveragedModel.update_parameters`` does, which looks for all weights anew each time: milliseconds of a step.
    """

    def __init__(self, training: Training) -> None:
        self.counter = training.average.n_averaged
        self.averages = [parameter.detach() for parameter in training.averaged_network.parameters()]
        self.weights = [parameter.detach() for parameter in training.network.parameters()]
        self.decay = average_decay(training.steps)

    def attach(self, engine: Engine) -> None:
        """Act after each step."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Average."""
        if int(self.counter) == 0:
            torch._foreach_copy_(self.averages, self.weights)
        else:
            torch._foreach_lerp_(self.averages, self.weights, 1 - self.decay)
        self.counter += 1


def _tell_progress(training: Training) -> None:
    """Tell a loss with a schedule which share of the training is done."""
    set_progress = getattr(training.loss, "set_progress", None)
    if set_progress is not None:
        set_progress(training.step / training.steps)
