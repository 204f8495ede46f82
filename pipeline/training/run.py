"""One run: one loss on one fold with one seed, from initial weights to out-of-fold scores on disk."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import pandas as pd
import psutil
import torch

from pipeline.network.precision import Precision
from pipeline.network.weights_hash import weights_hash
from pipeline.records.events import (
    Event,
    RestartEvent,
    StateEvent,
    SystemEvent,
    TrainEvent,
    ValidationEvent,
    append_event,
    read_events,
    write_events,
)
from pipeline.records.folder import RunFolder
from pipeline.records.run import RunRecord
from pipeline.records.table import csv_text, mean_dice, scores_frame, write_table
from pipeline.system.files import remove_leftovers, write_json, write_text
from pipeline.system.folder_lock import exclusive
from pipeline.training.checkpoint import ResumePoint, save_checkpoint
from pipeline.training.collapse import (
    CollapsedTraining,
    check_not_collapsed,
    failed_scores,
    never_predicted_classes,
    with_collapsed_classes,
)
from pipeline.training.rate_search import OnStep, delete_search_progress, find_rate, recorded_search
from pipeline.training.settings import RunSettings, initial_network, new_training
from pipeline.training.smaller_budgets import SmallerBudgets, decay_resume_point
from pipeline.training.state import NonFiniteError, Training, TrainingState
from pipeline.training.trainer import clock_s, train
from pipeline.training.validation import (
    CurvePoint,
    OutOfFoldScores,
    ThresholdScore,
    predict_out_of_fold,
    validate,
)

MAXIMUM_CURVE_CASES = 20
"""Largest number of held-out cases in the validation curves, which only inform but cost as much as training steps."""

SYSTEM_INTERVAL_S = 10.0
"""Seconds between two events about the use of the machine."""


class RunState(TypedDict):
    """State of an unfinished run in ``resume.pt``."""

    precision: Precision
    learning_rate: float
    training: TrainingState


def run(settings: RunSettings, folder: RunFolder, on_step: OnStep = lambda stage, done, of: None) -> None:
    """Carry out one run, or the rest of it; `folder.record` exists afterwards.

    A run that was stopped continues from its last checkpoint. If the loss is not finite in bfloat16, the network is
    trained again in float32, and the record notes it. If it is not finite in float32 either, the run has collapsed,
    which is recorded as a state with the scores of a failure.

    Parameters
    ----------
    settings
        Everything that determines the run.
    folder
        Folder of the run.
    on_step
        Called after each part of a stage with the stage ("search", "training", "validation" or "prediction"), the
        parts done, and the parts in all.

    Raises
    ------
    RecordError
        If another process is carrying out the run.
    ConfigError
        If the loss cannot be built.
    OSError
        If a file cannot be read or written, e.g. because the disk is full.
    """
    if folder.record.exists():
        return
    with exclusive(folder.root):
        if not folder.record.exists():
            _carry_out(settings, folder, on_step)


def _carry_out(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> None:
    torch.set_num_threads(settings.threads)
    started = clock_s(torch.device(settings.device))
    remove_leftovers(folder.root)
    remove_leftovers(folder.predictions)
    try:
        _train_predict_and_record(settings, folder, on_step, started)
    except CollapsedTraining as error:
        _write_collapsed(settings, folder, str(error), started)


def _train_predict_and_record(settings: RunSettings, folder: RunFolder, on_step: OnStep, started: float) -> None:
    notes = [event.why for event in read_events(folder.events) if isinstance(event, RestartEvent)]
    if notes:
        settings = replace(settings, precision="float32")
    try:
        training, result = _train_and_predict(settings, folder, on_step)
    except NonFiniteError as error:
        if settings.precision == "float32":
            return _write_collapsed(settings, folder, f"{error} in float32{' too' if notes else ''}", started)
        notes.append(f"{error} in bfloat16; trained anew in float32")
        append_event(folder.events, RestartEvent(step=error.step, why=notes[-1]))
        delete_progress(folder)
        settings = replace(settings, precision="float32")
        try:
            training, result = _train_and_predict(settings, folder, on_step)
        except NonFiniteError as second:
            return _write_collapsed(settings, folder, f"{second} in float32 too", started)
    if settings.plan.tta:
        # The earlier points of the curves are without test-time augmentation, so the last one must be too.
        _validate(settings, folder, training, on_step)
    else:
        _append_curve_point(folder, training, result.curve)
    lost = never_predicted_classes(result.scores)
    scores = with_collapsed_classes(result.scores, lost)
    if lost:
        why = f"never predicts {', '.join(lost)}"
        append_event(folder.events, StateEvent(step=training.step, state="collapsed", why=why))
    else:
        why = None
    save_checkpoint(folder.checkpoint, {"network": training.averaged_network.state_dict()})
    write_table(folder.cases, scores_frame(settings.loss.label, settings.fold, settings.seed, scores))
    write_text(folder.thresholds, _thresholds_csv(settings, result.at_thresholds))
    outcome = {
        "state": "collapsed" if lost else "ok",
        "why": why,
        "notes": (*notes, *_search_notes(settings, folder)),
        "learning_rate": training.learning_rate,
        "training_seconds": training.seconds,
        "feed_hash": training.input_hash.state,
        "weights_hash": weights_hash(training.averaged_network),
        "mean_dice": mean_dice(scores),
    }
    # The record marks the run as complete, so it is the last file to be written.
    write_json(folder.record, _record(settings, folder, started).model_copy(update=outcome).to_json())
    delete_progress(folder)


def _thresholds_csv(settings: RunSettings, scores: list[ThresholdScore]) -> str:
    """Return the columns loss, fold, seed, case, class, threshold, dice."""
    frame = pd.DataFrame([(s.case, s.class_name, s.threshold, s.dice) for s in scores])
    frame.columns = pd.Index(["case", "class", "threshold", "dice"])
    frame.insert(0, "loss", settings.loss.label)
    frame.insert(1, "fold", settings.fold)
    frame.insert(2, "seed", settings.seed)
    return csv_text(frame)


class _EventWriter:
    """Append the events of a training and, every ten seconds, the use of the machine by this process."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.process, self.last = folder, psutil.Process(), time.monotonic()
        self.process.cpu_percent()  # the first call starts the measurement and returns 0

    def __call__(self, event: TrainEvent) -> None:
        append_event(self.folder.events, event)
        now = time.monotonic()
        if now - self.last >= SYSTEM_INTERVAL_S:
            self.last = now
            percent, memory_mb = self.process.cpu_percent(), self.process.memory_info().rss / 2**20
            used = SystemEvent(step=event.step, cpu_percent=percent, memory_mb=memory_mb)
            append_event(self.folder.events, used)


def _train_and_predict(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> tuple[Training, OutOfFoldScores]:
    training = _train(settings, folder, on_step)
    try:
        return training, predict_out_of_fold(
            training.averaged_network,
            settings.validation,
            settings.originals,
            settings.evaluation,
            folder.predictions if settings.keep_predictions else None,
            0 if settings.plan.tta else MAXIMUM_CURVE_CASES,
            on_case=lambda done: on_step("prediction", done, len(settings.validation)),
        )
    except FloatingPointError as error:
        raise NonFiniteError("the network's output", training.step) from error


def _train(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> Training:
    """Return the finished training, continued from a checkpoint if there is one of the same precision."""
    resume: ResumePoint[RunState] = ResumePoint(folder.root)
    smaller = SmallerBudgets(settings, folder, on_step)
    saved = resume.load()
    if saved is not None and saved["precision"] == settings.precision:
        training = new_training(settings, settings.training, saved["learning_rate"], settings.steps)
        training.restore(saved["training"])
        _drop_repeated_events(folder, training.step, settings.steps)
    else:
        _drop_repeated_events(folder, None, settings.steps)
        smaller.delete_results()
        rate = find_rate(settings, folder, on_step).chosen
        training = new_training(settings, settings.training, rate, settings.steps)

    def validate_and_save(training: Training) -> None:
        due = validation_is_due(training.step, settings.steps, settings.checkpoint_interval, settings.validations)
        if due and training.step < settings.steps:  # the last point comes from the out-of-fold predictions
            _validate(settings, folder, training, on_step)
            check_not_collapsed(_events_of_training(read_events(folder.events)), training.step, training.steps)
        resume.save(
            {
                "precision": settings.precision,
                "learning_rate": training.learning_rate,
                "training": training.state(),
            }
        )

    on_event = _EventWriter(folder)
    smaller.carry_out_due(training)
    while training.step < settings.steps:
        train(
            training,
            interval=settings.checkpoint_interval,
            until=smaller.next_pause(training.step),
            on_event=on_event,
            on_step=smaller.report_step,
            on_interval=validate_and_save,
        )
        smaller.carry_out_due(training)
    return training


def validation_is_due(step: int, steps: int, interval: int, validations: int) -> bool:
    """Return whether the network is validated at `step`, a multiple of `interval` or the last step.

    The training is divided into `validations` equal parts. It is validated at the first multiple of `interval` at or
    after the end of each part.

    Examples
    --------
    >>> from pipeline.training.run import validation_is_due
    >>> [step for step in range(8, 101, 8) if validation_is_due(step, steps=100, interval=8, validations=5)]
    [24, 40, 64, 80]
    """
    before = (step - 1) // interval * interval
    return step * validations // steps > before * validations // steps


def _validate(settings: RunSettings, folder: RunFolder, training: Training, on_step: OnStep) -> None:
    """Append a point to the curves. It only informs: weights are never selected by their validation score."""
    cases = settings.validation[:MAXIMUM_CURVE_CASES]
    try:
        point = validate(
            training.averaged_network,
            cases,
            settings.evaluation,
            on_case=lambda done: on_step("validation", done, len(cases)),
        )
    except FloatingPointError as error:
        raise NonFiniteError("the network's output", training.step) from error
    _append_curve_point(folder, training, point)


def _append_curve_point(folder: RunFolder, training: Training, point: CurvePoint) -> None:
    append_event(folder.events, point.event(training.step, training.seconds))


def _drop_repeated_events(folder: RunFolder, step: int | None, steps: int) -> None:
    """Remove the events that a resumed run will append again.

    These are the events after `step` of `steps`, or all events if `step` is None. The state and the last point of the
    curves, which comes from the out-of-fold predictions, are always appended again. The events of a training before the
    last restart in float32 remain. A line that a kill cut short is removed.
    """
    if not folder.events.exists():
        return
    events = read_events(folder.events)
    remaining = [
        event
        for event in _events_of_training(events)
        if step is not None
        and event.step <= step
        and not isinstance(event, StateEvent)
        and not (isinstance(event, ValidationEvent) and event.step == steps)
    ]
    before_restart = events[: len(events) - len(_events_of_training(events))]
    write_events(folder.events, [*before_restart, *remaining])


def _events_of_training(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events of the present training: those after the last restart in float32."""
    restarts = [index for index, event in enumerate(events, start=1) if isinstance(event, RestartEvent)]
    return events[max(restarts, default=0) :]


def delete_progress(folder: RunFolder) -> None:
    """Remove the states of an unfinished training and of its search over learning rates."""
    ResumePoint[RunState](folder.root).clear()
    decay_resume_point(folder).clear()
    delete_search_progress(folder)


def _record(settings: RunSettings, folder: RunFolder, started: float) -> RunRecord:
    """Return the fields of a run's record that do not depend on the outcome of its training."""
    search = recorded_search(settings, folder)
    return RunRecord(
        loss=settings.loss.label,
        fold=settings.fold,
        seed=settings.seed,
        control=settings.loss.control,
        steps=settings.steps,
        seconds=clock_s(torch.device(settings.device)) - started,
        precision=settings.precision,
        threads=settings.threads,
        device=settings.device,
        machine=platform.machine(),
        initial_weights_hash=weights_hash(initial_network(settings)),
        learning_rate_search=None if search is None else search.to_json(),
        cases=tuple(case.id for case in settings.validation),
    )


def _search_notes(settings: RunSettings, folder: RunFolder) -> list[str]:
    """Return a note if the learning rate is the fallback; progress and report show it."""
    search = recorded_search(settings, folder)
    if search is None or search.rule != "fallback":
        return []
    longest = max((trial.steps for trial in search.trials), default=None)
    if longest is None:
        why = "no held-out case shows any class"
    else:
        why = f"no rate beat chance in trial trainings of {longest} steps"
    return [f"{why}; the learning rate is the default, {search.chosen:g}"]


def _write_collapsed(settings: RunSettings, folder: RunFolder, why: str, started: float) -> None:
    """Record a run that gave no usable network, with the scores of a failure in every case."""
    scores = failed_scores(settings.originals, settings.classes, settings.plan.metrics)
    SmallerBudgets(settings, folder, lambda stage, done, of: None).append_failures()
    append_event(folder.events, StateEvent(step=settings.steps, state="collapsed", why=why))
    write_table(folder.cases, scores_frame(settings.loss.label, settings.fold, settings.seed, scores))
    outcome = {
        "state": "collapsed",
        "why": why,
        "notes": tuple(_search_notes(settings, folder)),
        "learning_rate": None,
        "training_seconds": None,
        "feed_hash": None,
        "weights_hash": None,
        "mean_dice": None,
    }
    write_json(folder.record, _record(settings, folder, started).model_copy(update=outcome).to_json())
