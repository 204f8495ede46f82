"""Carrying out the search over learning rates of one run: its probes, and where they continue after a stop."""

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.records.events import RateSearchEvent, append_event, read_events
from pipeline.records.folder import RunFolder
from pipeline.records.rate_search import RateSearch
from pipeline.system.files import write_json
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.learning_rate import choose, probe_lengths, split_training_cases
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.trainer import NonFinite, Training, train
from pipeline.training.validation import rank_score

OnStep = Callable[[str, int, int], None]
"""Called with the stage of a run ("search", "training", "validation" or "prediction"), parts done, and parts in all."""


def find_rate(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> RateSearch:
    """Return the learning rate of this run, chosen on its training cases alone; a search is appended to the events."""
    if len(settings.learning_rates) == 1:
        return _given(settings)
    found = _search(settings, folder, on_step)
    append_event(folder.events, RateSearchEvent.model_validate(found.to_json()))
    return found


def recorded_search(settings: RunSettings, folder: RunFolder) -> RateSearch | None:
    """Return what `find_rate` returned last, None where the run ended before it did."""
    if len(settings.learning_rates) == 1:
        return _given(settings)
    events = [event for event in read_events(folder.events) if isinstance(event, RateSearchEvent)]
    return RateSearch.from_json(events[-1].to_json()) if events else None


def forget_search(folder: RunFolder) -> None:
    """Remove the states of an unfinished search."""
    _resume_point(folder).clear()
    _scores_path(folder).unlink(missing_ok=True)


def _given(settings: RunSettings) -> RateSearch:
    return RateSearch(settings.learning_rates[0], "given", None, ())


def _search(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> RateSearch:
    shown = [bool(case.foreground()) for case in settings.training]
    fitting, scoring = split_training_cases(
        settings.training, settings.patients, shown, settings.stream_seed, settings.fold
    )
    path, resume = _scores_path(folder), _resume_point(folder)
    known: dict[str, float | None] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    done = 0

    def score_of(rate: float, steps: int) -> float | None:
        nonlocal done
        name = f"{settings.precision} {rate!r} {steps}"
        if name not in known:
            known[name] = measured(rate, steps, name)
            write_json(path, known)
        done += 1
        return known[name]

    def measured(rate: float, steps: int, name: str) -> float | None:
        training = new_training(settings, fitting, rate, steps)
        saved = resume.load()
        if saved is not None and saved["candidate"] == name:
            training.restore(saved["training"])
        before = done % len(settings.learning_rates) * steps

        def pause(training: Training) -> None:
            resume.save({"candidate": name, "training": training.state()})

        try:
            train(
                training,
                interval=settings.checkpoint_interval,
                on_step=lambda step: on_step("search", before + step, steps * len(settings.learning_rates)),
                on_interval=pause,
            )
            score = rank_score(training.averaged_network, scoring, settings.plan, settings.precision, training.device)
        except (NonFinite, FloatingPointError):
            return None
        return score.average_precision if score else None

    untrained = new_training(settings, fitting, settings.learning_rates[0], 1)
    start = rank_score(untrained.network, scoring, settings.plan, settings.precision, untrained.device)
    return choose(settings.learning_rates, probe_lengths(settings.steps), start.chance if start else None, score_of)


def _resume_point(folder: RunFolder) -> ResumePoint:
    """Where a search continues that was stopped in the middle of a probe."""
    return ResumePoint(folder.root, "search")


def _scores_path(folder: RunFolder) -> Path:
    """Scores of the probes so far, kept until the run ends."""
    return folder.root / "search.json"
