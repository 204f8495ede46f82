"""The smaller budgets of a run: short decays forked from its training, each evaluated out of fold."""

from collections.abc import Sequence
from typing import TypedDict

import pandas as pd

from pipeline.network.precision import Precision
from pipeline.records.folder import RunFolder
from pipeline.records.table import BUDGET_COLUMNS, Score, read_table, scores_frame, write_table
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.collapse import failed_scores, never_predicted_classes, with_collapsed_classes
from pipeline.training.rate_search import OnStep
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.state import NonFiniteError, Training, TrainingState
from pipeline.training.trainer import train
from pipeline.training.validation import predict_out_of_fold
from pipeline.training.warmup_stable_decay import decay_start


class ForkState(TypedDict):
    """An unfinished decay: its budget in steps, its number format, and where it continues."""

    budget: int
    precision: Precision
    training: TrainingState


def decay_resume_point(folder: RunFolder) -> ResumePoint[ForkState]:
    """Return where an unfinished decay of a run continues."""
    return ResumePoint(folder.root, "decay")


class SmallerBudgets:
    """Decays that are forked from the training of a run, in ascending order of their budgets.

    Each takes over weights, optimizer and random streams of the run's training at the step where a training of its own
    length would begin to decay. Its scores are written before the training of the run continues, so that a stopped run
    continues where it was.

    Parameters
    ----------
    settings
        Settings of the run, with its smaller budgets.
    folder
        Folder of the run.
    on_step
        Receives the steps of all trainings of the run together, and the predicted cases.
    """

    def __init__(self, settings: RunSettings, folder: RunFolder, on_step: OnStep) -> None:
        self.settings, self.folder, self.on_step = settings, folder, on_step
        self.resume = decay_resume_point(folder)

    def next_pause(self, step: int) -> int:
        """Return the next step after `step` at which a decay is forked, or the last step of the training."""
        starts = [decay_start(budget) for budget in self.settings.smaller_budgets]
        return min([start for start in starts if start > step], default=self.settings.steps)

    def report_step(self, step: int, decayed: int = 0) -> None:
        """Report the steps of the run's training, of the decays before `step` and of the present one, together."""
        budgets = self.settings.smaller_budgets
        of_decays = {budget: budget - decay_start(budget) for budget in budgets}
        done = sum(steps for budget, steps in of_decays.items() if decay_start(budget) < step)
        self.on_step("training", step + done + decayed, self.settings.steps + sum(of_decays.values()))

    def carry_out_due(self, training: Training) -> None:
        """Carry out the decays that begin at the present step of the run's training.

        Raises
        ------
        NonFiniteError
            If a loss or an output is not finite in bfloat16. In float32 the budget gets the scores of a failure.
        OSError
            If a file cannot be read or written.
        """
        recorded = self._recorded()
        for budget in self.settings.smaller_budgets:
            if decay_start(budget) == training.step and budget not in recorded:
                self._append(budget, self._scores(training, budget))

    def append_failures(self) -> None:
        """Give the scores of a failure to all budgets without scores, since the run has collapsed."""
        recorded = self._recorded()
        for budget in self.settings.smaller_budgets:
            if budget not in recorded:
                self._append(budget, self._failures())

    def delete_results(self) -> None:
        """Remove all scores and the state of an unfinished decay, because the training of the run starts anew."""
        self.resume.clear()
        self.folder.budgets.unlink(missing_ok=True)

    def _recorded(self) -> set[int]:
        return set(read_table(self.folder.budgets)["steps"]) if self.folder.budgets.exists() else set()

    def _append(self, budget: int, scores: Sequence[Score]) -> None:
        settings = self.settings
        rows = scores_frame(settings.loss.label, settings.fold, settings.seed, scores)
        rows.insert(0, "steps", budget)
        if self.folder.budgets.exists():
            rows = pd.concat([read_table(self.folder.budgets), rows], ignore_index=True)
        write_table(self.folder.budgets, rows[list(BUDGET_COLUMNS)])
        self.resume.clear()

    def _scores(self, training: Training, budget: int) -> Sequence[Score]:
        settings = self.settings
        try:
            decay = self._decayed(training, budget)
            result = predict_out_of_fold(
                decay.averaged_network,
                settings.validation,
                settings.originals,
                settings.evaluation,
                None,
                0,
                on_case=lambda done: self.on_step("prediction", done, len(settings.validation)),
            )
        except (NonFiniteError, FloatingPointError) as error:
            if settings.precision == "float32":
                return self._failures()
            if isinstance(error, NonFiniteError):
                raise
            raise NonFiniteError("the network's output", budget) from error
        return with_collapsed_classes(result.scores, never_predicted_classes(result.scores))

    def _decayed(self, training: Training, budget: int) -> Training:
        """Return the finished decay, continued from its checkpoint if there is one."""
        settings = self.settings
        decay = new_training(settings, settings.training, training.learning_rate, budget)
        decay.fork(training)
        saved = self.resume.load()
        if saved is not None and (saved["budget"], saved["precision"]) == (budget, settings.precision):
            decay.restore(saved["training"])

        def save(decay: Training) -> None:
            self.resume.save({"budget": budget, "precision": settings.precision, "training": decay.state()})

        train(
            decay,
            interval=settings.checkpoint_interval,
            on_step=lambda step: self.report_step(training.step, step - training.step),
            on_interval=save,
        )
        return decay

    def _failures(self) -> list[Score]:
        settings = self.settings
        return failed_scores(settings.originals, settings.classes, settings.plan.metrics)
