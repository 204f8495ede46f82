"""All that determines one run, and the trainings it begins."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.data.dataset import Case
from pipeline.data.plan import Plan
from pipeline.losses import LossSpec, build_loss
from pipeline.network.architecture import build_network
from pipeline.network.precision import Precision
from pipeline.system.random_streams import derived_seed
from pipeline.training.patch_sampling import Feed
from pipeline.training.preparation import PreparedCase
from pipeline.training.trainer import Training


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All that determines a run.

    `classes` are the foreground label values and names, `class_voxels` the voxels of each class (background first) in
    the fold's training labels, `patients` the patient of each training case, `validations` how many points the curves
    have.
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

    @property
    def stream_seed(self) -> int:
        """What names the random streams: the seed, the same for all arms but a control, whose draws are its own."""
        return derived_seed(self.seed, "control") if self.loss.control else self.seed

    @property
    def checkpoint_interval(self) -> int:
        """Steps between two checkpoints: one epoch at most."""
        epoch = -(-len(self.training) // self.plan.batch)
        return max(1, min(epoch, -(-self.steps // self.validations)))


def new_training(settings: RunSettings, cases: tuple[PreparedCase, ...], rate: float, steps: int) -> Training:
    """Return a training on `cases` at its first step, with the run's own initial weights and random streams."""
    network = build_network(
        settings.plan, len(settings.plan.normalisation), len(settings.classes) + 1, settings.stream_seed, settings.fold
    )
    return Training(
        network=network,
        loss=build_loss(settings.loss, settings.class_voxels),
        feed=Feed(cases, settings.plan, settings.stream_seed, settings.fold),
        learning_rate=rate,
        steps=steps,
        precision=settings.precision,
        device=torch.device(settings.device),
    )
