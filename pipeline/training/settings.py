"""The settings of one run, and the trainings that start from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from pipeline.data.dataset import Case
from pipeline.data.plan import Plan
from pipeline.losses import LossSpec
from pipeline.network.architecture import build_network
from pipeline.network.precision import Precision
from pipeline.system.random_streams import derived_seed
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.preparation import PreparedCase
from pipeline.training.recipe import Recipe
from pipeline.training.state import Training
from pipeline.training.validation import EvaluationSettings


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Everything that determines the result of a run.

    Attributes
    ----------
    loss
        The loss and its arguments.
    fold, seed
        Fold and seed of the run.
    plan
        Preprocessing and network.
    classes
        Foreground label values and names, in ascending order of value.
    class_voxels
        Voxels of each class in the fold's training labels, background first.
    training
        Prepared training cases.
    patients
        Patient of each training case.
    validation
        Prepared held-out cases.
    originals
        Held-out cases with their original files, by name.
    steps
        Optimizer steps of the training.
    precision
        Number format of the network.
    learning_rates
        Candidate learning rates; a single one is used without a search.
    validations
        Points of the validation curves.
    threads
        CPU threads.
    device
        Torch device, e.g. ``cpu`` or ``cuda``.
    keep_predictions
        True if the predicted masks of the held-out cases are written.
    recipe
        How the network is trained.
    smaller_budgets
        Steps of the smaller budgets at which the run is evaluated too, in ascending order.
    """

    loss: LossSpec
    fold: int
    seed: int
    plan: Plan
    classes: Mapping[int, str]
    class_voxels: tuple[int, ...]
    training: tuple[PreparedCase, ...]
    patients: tuple[str, ...]
    validation: tuple[PreparedCase, ...]
    originals: Mapping[str, Case]
    steps: int
    precision: Precision
    learning_rates: tuple[float, ...]
    validations: int = 5
    threads: int = 1
    device: str = "cpu"
    keep_predictions: bool = True
    recipe: Recipe = field(default_factory=Recipe)
    smaller_budgets: tuple[int, ...] = ()

    @property
    def stream_seed(self) -> int:
        """Seed of the random streams: the run's seed for all arms, except for a control, which has its own streams."""
        return derived_seed(self.seed, "control") if self.loss.control else self.seed

    @property
    def checkpoint_interval(self) -> int:
        """Steps between two checkpoints: at most one epoch, and at most the steps between two validations."""
        epoch = -(-len(self.training) // self.plan.batch)
        return max(1, min(epoch, -(-self.steps // self.validations)))

    @property
    def evaluation(self) -> EvaluationSettings:
        """Settings of validation and out-of-fold prediction."""
        return EvaluationSettings(self.plan, self.classes, self.precision, torch.device(self.device))


def initial_network(settings: RunSettings) -> nn.Module:
    """Return the network of a run with its initial weights, the same for all losses of a fold and seed.

    Raises
    ------
    ConfigError
        If the network cannot be built.
    """
    channels, classes = len(settings.plan.normalisation), len(settings.classes) + 1
    return build_network(settings.plan, channels, classes, settings.stream_seed, settings.fold, settings.recipe.network)


def new_training(settings: RunSettings, cases: tuple[PreparedCase, ...], rate: float, steps: int) -> Training:
    """Return a training before its first step, with the run's own initial weights and random streams.

    Parameters
    ----------
    settings
        Settings of the run.
    cases
        Cases to train on; a trial training uses a part of the run's training cases.
    rate
        Largest learning rate of the schedule.
    steps
        Optimizer steps.

    Raises
    ------
    ConfigError
        If the loss or the network cannot be built.
    """
    recipe = settings.recipe
    augmentation = recipe.augmentation.for_classes(settings.classes.values())
    return Training(
        network=recipe.supervised(initial_network(settings)),
        loss=recipe.build_loss(settings.loss, settings.class_voxels),
        sampler=PatchSampler(cases, settings.plan, settings.stream_seed, settings.fold, recipe.sampling, augmentation),
        learning_rate=rate,
        steps=steps,
        precision=settings.precision,
        device=torch.device(settings.device),
        optimizer_choice=recipe.optimizer,
        schedule_choice=recipe.schedule.for_budgets(settings.smaller_budgets),
        weight_average=recipe.weight_average,
    )
