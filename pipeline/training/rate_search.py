"""The trial trainings of one run, by which its learning rate is chosen, and how they continue after a stop.

`pipeline.training.learning_rate` holds the rule that chooses.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from pipeline.records.events import RateSearchEvent, append_event, read_events
from pipeline.records.folder import RunFolder
from pipeline.records.rate_search import RateSearch
from pipeline.system.files import write_json
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.learning_rate import choose_rate, split_training_cases, trial_steps
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.state import NonFiniteError, Training, TrainingState
from pipeline.training.trainer import train
from pipeline.training.validation import ranking_score

OnStep = Callable[[str, int, int], None]
"""Called with the stage of a run ("search", "training", "validation" or "prediction"), parts done, and parts in all."""


class TrialState(TypedDict):
    """An unfinished trial training: its name, and where it continues."""

    candidate: str
    training: TrainingState


def find_rate(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> RateSearch:
    """Return the learning rate of a run, chosen on its training cases alone.

    A single candidate is used without a search. The outcome of a search is appended to the events of the run.

    Parameters
    ----------
    settings
        Settings of the run, with the candidate rates.
    folder
        Folder of the run, where a stopped search continues.
    on_step
        Called after each step of a trial training.
    """
    if len(settings.learning_rates) == 1:
        return _given(settings)
    search = _Search(settings, folder, on_step).run()
    append_event(folder.events, RateSearchEvent.model_validate(search.to_json()))
    return search


def recorded_search(settings: RunSettings, folder: RunFolder) -> RateSearch | None:
    """Return the last result of `find_rate`, or None if the run ended before it had one."""
    if len(settings.learning_rates) == 1:
        return _given(settings)
    events = [event for event in read_events(folder.events) if isinstance(event, RateSearchEvent)]
    return RateSearch.from_json(events[-1].to_json()) if events else None


def delete_search_progress(folder: RunFolder) -> None:
    """Remove the states and scores of an unfinished search."""
    _resume_point(folder).clear()
    _scores_path(folder).unlink(missing_ok=True)


def _given(settings: RunSettings) -> RateSearch:
    return RateSearch(settings.learning_rates[0], "given", None, ())


class _Search:
    """A search over learning rates; finished trial trainings are read from disk, an unfinished one continues."""

    def __init__(self, settings: RunSettings, folder: RunFolder, on_step: OnStep) -> None:
        self.settings, self.on_step = settings, on_step
        self.scores_path, self.resume = _scores_path(folder), _resume_point(folder)
        self.scores: dict[str, float | None] = {}
        if self.scores_path.exists():
            self.scores = json.loads(self.scores_path.read_text(encoding="utf-8"))
        self.finished = 0
        with_foreground = [bool(case.foreground()) for case in settings.training]
        self.fitting, self.scoring = split_training_cases(
            settings.training, settings.patients, with_foreground, settings.stream_seed, settings.fold
        )

    def run(self) -> RateSearch:
        """Carry out all trial trainings and return the outcome."""
        settings = self.settings
        untrained = new_training(settings, self.fitting, settings.learning_rates[0], 1)
        baseline = ranking_score(untrained.network, self.scoring, settings.evaluation)
        chance = baseline.chance if baseline else None
        default = settings.recipe.optimizer.fallback_rate(settings.learning_rates)
        return choose_rate(settings.learning_rates, trial_steps(settings.steps), chance, self.score_of, default)

    def score_of(self, rate: float, steps: int) -> float | None:
        """Return the score of a trial training from disk, or train it."""
        name = f"{self.settings.precision} {rate!r} {steps}"
        if name not in self.scores:
            self.scores[name] = self._trained_score(rate, steps, name)
            write_json(self.scores_path, self.scores)
        self.finished += 1
        return self.scores[name]

    def _trained_score(self, rate: float, steps: int, name: str) -> float | None:
        """Return the average precision after a trial training, or None if loss or output is not finite."""
        settings = self.settings
        training = new_training(settings, self.fitting, rate, steps)
        saved = self.resume.load()
        if saved is not None and saved["candidate"] == name:
            training.restore(saved["training"])
        candidates = len(settings.learning_rates)
        before = self.finished % candidates * steps

        def save(training: Training) -> None:
            self.resume.save({"candidate": name, "training": training.state()})

        try:
            train(
                training,
                interval=settings.checkpoint_interval,
                on_step=lambda step: self.on_step("search", before + step, steps * candidates),
                on_interval=save,
            )
            score = ranking_score(training.averaged_network, self.scoring, settings.evaluation)
        except (NonFiniteError, FloatingPointError):
            return None
        return score.average_precision if score else None


def _resume_point(folder: RunFolder) -> ResumePoint[TrialState]:
    """Return where a search continues that was stopped during a trial training."""
    return ResumePoint(folder.root, "search")


def _scores_path(folder: RunFolder) -> Path:
    """Return the file with the scores of finished trial trainings, which exists until the run ends."""
    return folder.root / "search.json"
