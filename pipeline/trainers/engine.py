"""Our own engine as a trainer: MONAI and Ignite, from prepared cases to out-of-fold scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.nifti_header import format_shape
from pipeline.data.plan import Plan
from pipeline.data.planning import smaller_memory_gib
from pipeline.network.precision import Precision
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.trainers.trainer import OnStep, Run
from pipeline.training.preparation import PreparedCase
from pipeline.training.recipe import Recipe
from pipeline.training.run import MAXIMUM_CURVE_CASES
from pipeline.training.run import run as train_and_predict
from pipeline.training.settings import RunSettings

MOST_VALIDATIONS = 5

VALIDATION_SHARE = 0.25
"""Largest cost of the validation curves, as a share of the cost of the training."""

PASSES_PER_STEP = 3
"""Cost of a training step per patch, in forward passes: one forward, and a backward pass of about two."""


@dataclass(frozen=True, slots=True)
class EngineTrainer:
    """Trainer that carries out runs by `pipeline.training`.

    Attributes
    ----------
    plan
        Preprocessing and network.
    prepared
        Prepared cases by id.
    steps
        Optimizer steps of each training.
    precision
        Number format of the network.
    learning_rates
        Candidates of the search; a single one is used without a search.
    threads, device
        CPU threads and torch device of each run.
    keep_predictions
        True if the out-of-fold masks are stored.
    recipe
        Network, optimizer and schedule.
    smaller_budgets
        Steps of the smaller budgets at which each run is evaluated too, in ascending order.
    """

    plan: Plan
    prepared: Mapping[str, PreparedCase]
    steps: int
    precision: Precision
    learning_rates: tuple[float, ...]
    threads: int
    device: str
    keep_predictions: bool
    recipe: Recipe = field(default_factory=Recipe)
    smaller_budgets: tuple[int, ...] = ()

    @property
    def shared_paths(self) -> Sequence[Path]:
        """Folder of a prepared case."""
        return [case.folder for case in list(self.prepared.values())[:1]]

    @property
    def memory_advice(self) -> str:
        """Advice to halve the patch."""
        gib, patch = f"{smaller_memory_gib(self.plan):.2g}", format_shape(self.plan.patch)
        return f"start a new --out with --memory {gib}, which halves the patch of {patch} voxels"

    def carry_out(self, run: Run, on_step: OnStep) -> None:
        """Carry out one run, or the rest of it; see `pipeline.training.run.run`."""
        train_and_predict(self.settings_of(run), run.folder, on_step)

    def settings_of(self, run: Run) -> RunSettings:
        """Return everything that determines the result of a run."""
        prepared = self.prepared
        shapes = [prepared[case.id].shape for case in run.held_out[:MAXIMUM_CURVE_CASES]]
        return RunSettings(
            loss=run.loss,
            fold=run.key.fold,
            seed=run.key.seed,
            plan=self.plan,
            classes=run.classes,
            class_voxels=run.class_voxels,
            training=tuple(prepared[case.id] for case in run.training),
            patients=tuple(case.patient for case in run.training),
            validation=tuple(prepared[case.id] for case in run.held_out),
            originals={case.id: case for case in run.held_out},
            steps=self.steps,
            validations=validations(self.steps, self.plan, shapes, WINDOW_OVERLAP),
            precision=self.precision,
            learning_rates=self.learning_rates,
            threads=self.threads,
            device=self.device,
            keep_predictions=self.keep_predictions,
            recipe=self.recipe,
            smaller_budgets=self.smaller_budgets,
        )


def validations(steps: int, plan: Plan, shapes: Sequence[tuple[int, int, int]], overlap: float) -> int:
    """Return the number of points of a run's validation curves: 1 to 5, as many as cost little beside the training.

    Parameters
    ----------
    steps
        Optimizer steps of the training.
    plan
        Plan with batch and window, in voxels.
    shapes
        Shapes of the validation cases on the grid of the plan, in voxels.
    overlap
        Overlap of neighboring windows, as a share of their edge.
    """
    windows = sum(
        math.prod(
            1 + max(0, math.ceil((edge - window) / (window * (1 - overlap))))
            for edge, window in zip(shape, plan.inference_window, strict=True)
        )
        for shape in shapes
    )
    affordable = VALIDATION_SHARE * steps * plan.batch * PASSES_PER_STEP / max(windows, 1)
    return max(1, min(MOST_VALIDATIONS, int(affordable)))
