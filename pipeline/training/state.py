"""State of a training: everything that changes while a network is trained, and that a checkpoint holds."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pipeline.network.precision import Precision
from pipeline.training.optimizer_choice import OptimizerChoice
from pipeline.training.patch_sampling import InputHash, PatchSampler
from pipeline.training.schedule import Schedule


class NonFiniteError(Exception):
    """A loss value or an output of the network was NaN or infinite.

    On a CPU the weights are those of the step before; on a GPU the step may have been taken.

    Parameters
    ----------
    subject
        What was not finite, e.g. "the loss".
    step
        Step at which it was not finite, counted from 1.
    """

    def __init__(self, subject: str, step: int) -> None:
        self.step = step
        super().__init__(f"{subject} was not finite at step {step}")


@dataclass
class PendingStatistics:
    """Losses and gradient norms accumulated since the last event of a training.

    Attributes
    ----------
    losses, norms
        Scalar tensors of each step. They stay on the device, since reading them would make a GPU wait.
    previous_gradients
        Gradients of the step before, if the next event needs them.
    """

    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    previous_gradients: list[torch.Tensor] = field(default_factory=list)


class PendingStatisticsState(TypedDict):
    """`PendingStatistics` in a checkpoint; the names are those of the file format."""

    losses: list[torch.Tensor]
    norms: list[torch.Tensor]
    before: list[torch.Tensor]


class TrainingState(TypedDict):
    """State of a training in a checkpoint: plain dictionaries, since torch loads no classes without executing code.

    `network`, `average`, `optimizer` and `schedule` are the ``state_dict`` of each.
    """

    step: int
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    feed_hash: str
    seconds: float
    since_record: PendingStatisticsState


@dataclass
class Training:
    """A network in training, with everything that a checkpoint holds.

    Attributes
    ----------
    network
        Network to train; it is moved to `device`.
    loss
        Called with the output of the network, logits (B, K, *patch) or those of several resolutions, and with class
        indices (B, 1, *patch); returns a scalar.
    sampler
        Samples the patches.
    learning_rate
        Largest learning rate of the schedule.
    steps
        Optimizer steps of the whole training.
    precision
        Number format of the forward and backward pass.
    device
        Device to train on.
    step
        Steps taken so far.
    input_hash
        Hash of all inputs and labels so far.
    seconds
        Seconds of the training so far (`clock_s`).
    pending
        Statistics since the last event.
    optimizer_choice, schedule_choice
        Choices from which `optimizer` and `schedule` are built.
    weight_average
        True if validation and prediction use a moving average of the weights, and not the weights themselves.
    forked_at, progress_at_fork
        Step at which the training was forked from a longer one, and the completed share of the longer one then.
    """

    network: nn.Module
    loss: nn.Module
    sampler: PatchSampler
    learning_rate: float
    steps: int
    precision: Precision
    device: torch.device
    step: int = 0
    input_hash: InputHash = field(default_factory=InputHash)
    seconds: float = 0.0
    pending: PendingStatistics = field(default_factory=PendingStatistics)
    optimizer_choice: OptimizerChoice = field(default_factory=OptimizerChoice)
    schedule_choice: Schedule = field(default_factory=Schedule)
    weight_average: bool = True
    forked_at: int = 0
    progress_at_fork: float = 0.0

    def __post_init__(self) -> None:
        self.network.to(self.device)
        self.loss.to(self.device)
        self.optimizer = self.optimizer_choice.build(self.network.parameters(), self.learning_rate)
        self.schedule = self.schedule_choice.build(self.optimizer, self.learning_rate, self.steps)
        self.average = AveragedModel(self.network)

    def state(self) -> TrainingState:
        """Return the state of the training; its tensors are those of the training, not copies."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "feed_hash": self.input_hash.state,
            "seconds": self.seconds,
            "since_record": {
                "losses": list(self.pending.losses),
                "norms": list(self.pending.norms),
                "before": list(self.pending.previous_gradients),
            },
        }

    def restore(self, state: TrainingState) -> None:
        """Continue from a state; the result equals that of an uninterrupted training.

        Raises
        ------
        RuntimeError
            If the state is that of another network.
        """
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.input_hash.state, self.seconds = state["step"], state["feed_hash"], state["seconds"]

        def on_device(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            return [torch.as_tensor(tensor, device=self.device) for tensor in tensors]

        pending = state["since_record"]
        self.pending = PendingStatistics(
            on_device(pending["losses"]), on_device(pending["norms"]), on_device(pending["before"])
        )

    def fork(self, other: "Training") -> None:
        """Continue from the present state of a longer training, of which nothing changes.

        Raises
        ------
        RuntimeError
            If the other training has another network.
        """
        state = deepcopy(other.state())  # an optimizer would otherwise share its tensors with the other one
        state["schedule"]["total_steps"] = self.steps
        self.restore(state)
        self.forked_at, self.progress_at_fork = other.step, other.progress

    @property
    def progress(self) -> float:
        """Completed share of the training, on which losses with a schedule depend.

        That of a forked training rises from the share of the longer training to 1.
        """
        share = (self.step - self.forked_at) / (self.steps - self.forked_at)
        return self.progress_at_fork + (1 - self.progress_at_fork) * share

    @property
    def averaged_network(self) -> nn.Module:
        """The network for validation and prediction, with a moving average of the weights or a copy of them."""
        return self.average.module
