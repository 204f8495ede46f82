"""One run: one loss on one fold with one seed, from initial weights to out-of-fold scores on disk."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import psutil
import torch

from pipeline.network.architecture import build_network, weights_hash
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
from pipeline.records.table import Score, csv_text, scores_frame, write_table
from pipeline.system.files import remove_leftovers, write_json, write_text
from pipeline.system.folder_lock import exclusive
from pipeline.training.checkpoint import ResumePoint, save_checkpoint
from pipeline.training.failure import failed_scores
from pipeline.training.rate_search import OnStep, find_rate, forget_search, recorded_search
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.trainer import NonFinite, Training, seconds_now, train
from pipeline.training.validation import CurvePoint, OutOfFold, ThresholdScore, mean_dice, predict_out_of_fold, validate

MAXIMUM_CURVE_CASES = 20
"""Of a fold's cases, those that the curves are of: they inform only, and cost as much as steps do."""

SYSTEM_EVERY_S = 10.0
LATE = 0.75
"""Of a training: who has found nothing by then, at this validation and the one before, will not."""


class CollapsedTraining(Exception):
    """A training that finds no structure in any case, late on."""


def run(settings: RunSettings, folder: RunFolder, on_step: OnStep = lambda stage, done, of: None) -> None:
    """Carry out one run, or what is left of it; `folder.record` exists afterwards.

    A run that was stopped continues from its last checkpoint. A loss that goes to NaN in bfloat16 is trained anew in
    float32, and the record says so; one that does in float32 too has collapsed, which is a state, not a score.

    Raises
    ------
    RecordError
        Where another process carries it out at this moment.
    """
    if folder.record.exists():
        return
    with exclusive(folder.root):
        if not folder.record.exists():
            _carry_out(settings, folder, on_step)


def _carry_out(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> None:
    torch.set_num_threads(settings.threads)
    started = seconds_now(torch.device(settings.device))
    remove_leftovers(folder.root)
    remove_leftovers(folder.predictions)
    try:
        _carry_through(settings, folder, on_step, started)
    except CollapsedTraining as error:
        _write_collapsed(settings, folder, str(error), started)


def _carry_through(settings: RunSettings, folder: RunFolder, on_step: OnStep, started: float) -> None:
    notes = [event.why for event in read_events(folder.events) if isinstance(event, RestartEvent)]
    if notes:
        settings = replace(settings, precision="float32")
    try:
        training, found = _train_and_predict(settings, folder, on_step)
    except NonFinite as error:
        if settings.precision == "float32":
            return _write_collapsed(settings, folder, f"{error} in float32{' too' if notes else ''}", started)
        notes.append(f"{error} in bfloat16; trained anew in float32")
        append_event(folder.events, RestartEvent(step=error.step, why=notes[-1]))
        forget_progress(folder)
        settings = replace(settings, precision="float32")
        try:
            training, found = _train_and_predict(settings, folder, on_step)
        except NonFinite as second:
            return _write_collapsed(settings, folder, f"{second} in float32 too", started)
    if settings.plan.tta:
        _validate(settings, folder, training, on_step)  # curves are of one view to their end
    else:
        _append_point(folder, training, found.curve)
    scores, lost = found.scores, lost_classes(found.scores)
    if lost:
        why = f"never predicts {', '.join(lost)}"
        scores = [replace(s, state="collapsed") if s.class_name in lost else s for s in scores]
        append_event(folder.events, StateEvent(step=training.step, state="collapsed", why=why))
    else:
        why = None
    save_checkpoint(folder.checkpoint, {"network": training.averaged_network.state_dict()})
    write_table(folder.cases, scores_frame(settings.loss.label, settings.fold, settings.seed, scores))
    write_text(folder.thresholds, _thresholds_csv(settings, found.at_thresholds))
    outcome = {
        "state": "collapsed" if lost else "ok",
        "why": why,
        "notes": (*notes, *_search_notes(settings, folder)),
        "learning_rate": training.learning_rate,
        "training_seconds": training.seconds,
        "feed_hash": training.hash.state,
        "weights_hash": weights_hash(training.averaged_network),
        "mean_dice": mean_dice(scores),
    }
    write_json(folder.record, _record(settings, folder, started).model_copy(update=outcome).to_json())
    forget_progress(folder)


def _thresholds_csv(settings: RunSettings, scores: list[ThresholdScore]) -> str:
    """Return the columns loss, fold, seed, case, class, threshold, dice."""
    frame = pd.DataFrame([(s.case, s.class_name, s.threshold, s.dice) for s in scores])
    frame.columns = pd.Index(["case", "class", "threshold", "dice"])
    frame.insert(0, "loss", settings.loss.label)
    frame.insert(1, "fold", settings.fold)
    frame.insert(2, "seed", settings.seed)
    return csv_text(frame)


class _Recorder:
    """Append events, and every ten seconds what the process uses of the machine."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.process, self.last = folder, psutil.Process(), time.monotonic()
        self.process.cpu_percent()

    def __call__(self, event: TrainEvent) -> None:
        append_event(self.folder.events, event)
        now = time.monotonic()
        if now - self.last >= SYSTEM_EVERY_S:
            self.last = now
            percent, memory_mb = self.process.cpu_percent(), self.process.memory_info().rss / 2**20
            used = SystemEvent(step=event.step, cpu_percent=percent, memory_mb=memory_mb)
            append_event(self.folder.events, used)


def lost_classes(scores: list[Score]) -> list[str]:
    """Return the classes that some reference shows and no prediction ever finds."""
    states: dict[str, set[str]] = {}
    for score in scores:
        if score.metric == "dice":
            states.setdefault(score.class_name, set()).add(score.state)
    return sorted(name for name, found in states.items() if "missed" in found and not found & {"ok", "false_positive"})


def _train_and_predict(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> tuple[Training, OutOfFold]:
    training = _train(settings, folder, on_step)
    try:
        return training, predict_out_of_fold(
            training.averaged_network,
            settings.validation,
            settings.originals,
            settings.plan,
            settings.classes,
            settings.precision,
            torch.device(settings.device),
            folder.predictions if settings.keep_predictions else None,
            0 if settings.plan.tta else MAXIMUM_CURVE_CASES,
            on_case=lambda done: on_step("prediction", done, len(settings.validation)),
        )
    except FloatingPointError as error:
        raise NonFinite("the network's output", training.step) from error


def _train(settings: RunSettings, folder: RunFolder, on_step: OnStep) -> Training:
    """Return the finished training, continued from a checkpoint where there is one of the same precision."""
    resume = ResumePoint(folder.root)
    saved = resume.load()
    if saved is not None and saved["precision"] == settings.precision:
        training = new_training(settings, settings.training, saved["learning_rate"], settings.steps)
        training.restore(saved["training"])
        _forget_events_after(folder, training.step, settings.steps)
    else:
        _forget_events_after(folder, None, settings.steps)
        rate = find_rate(settings, folder, on_step).chosen
        training = new_training(settings, settings.training, rate, settings.steps)

    def pause(training: Training) -> None:
        due = validation_is_due(training.step, settings.steps, settings.checkpoint_interval, settings.validations)
        if due and training.step < settings.steps:  # the last point comes of the predictions out of fold
            _validate(settings, folder, training, on_step)
            _check_alive(folder, training)
        state = {"precision": settings.precision, "learning_rate": training.learning_rate, "training": training.state()}
        resume.save(state)

    train(
        training,
        interval=settings.checkpoint_interval,
        on_record=_Recorder(folder),
        on_step=lambda step: on_step("training", step, settings.steps),
        on_interval=pause,
    )
    return training


def validation_is_due(step: int, steps: int, interval: int, validations: int) -> bool:
    """Whether the pause at `step` is the first at or after another of `validations` equal parts of the training."""
    before = (step - 1) // interval * interval
    return step * validations // steps > before * validations // steps


def _validate(settings: RunSettings, folder: RunFolder, training: Training, on_step: OnStep) -> None:
    """Append a point to the curves. It informs only: weights are never chosen by their validation score."""
    cases = settings.validation[:MAXIMUM_CURVE_CASES]
    try:
        point = validate(
            training.averaged_network,
            cases,
            settings.plan,
            settings.classes,
            settings.precision,
            training.device,
            on_case=lambda done: on_step("validation", done, len(cases)),
        )
    except FloatingPointError as error:
        raise NonFinite("the network's output", training.step) from error
    _append_point(folder, training, point)


def _append_point(folder: RunFolder, training: Training, point: CurvePoint) -> None:
    append_event(folder.events, point.event(training.step, training.seconds))


def _check_alive(folder: RunFolder, training: Training) -> None:
    """Stop a training that has long found nothing: what is left of its steps would be wasted."""
    events = read_events(folder.events)
    validations = [event for event in events[_last_begin(events) :] if isinstance(event, ValidationEvent)]
    late = LATE * training.steps <= training.step < training.steps
    if late and len(validations) > 1 and not any(_finds_something(event) for event in validations[-2:]):
        earlier = validations[-2].step
        raise CollapsedTraining(
            f"finds nothing in any case after {earlier} and {training.step} of {training.steps} steps; stopped"
        )


def _finds_something(validation: ValidationEvent) -> bool:
    counts = validation.counts
    return counts.ok + counts.false_positive > 0 or counts.missed == 0


def _forget_events_after(folder: RunFolder, step: int | None, steps: int) -> None:
    """Drop events of what a resumed run does again: after `step` of `steps`, or (None) all of it.

    The state and the last point of the curves, which come of the predictions out of fold, are always made again.
    A training before the last restart in float32 is over, and its events stay. A line cut short by a kill goes too.
    """
    if not folder.events.exists():
        return
    events = read_events(folder.events)
    begin = _last_begin(events)
    kept = [
        event
        for event in events[begin:]
        if step is not None
        and event.step <= step
        and not isinstance(event, StateEvent)
        and not (isinstance(event, ValidationEvent) and event.step == steps)
    ]
    write_events(folder.events, [*events[:begin], *kept])


def _last_begin(events: Sequence[Event]) -> int:
    """Return where the events of the present training begin: after the last restart in float32."""
    return max((index for index, event in enumerate(events, start=1) if isinstance(event, RestartEvent)), default=0)


def forget_progress(folder: RunFolder) -> None:
    """Remove the states of an unfinished training."""
    ResumePoint(folder.root).clear()
    forget_search(folder)


def _record(settings: RunSettings, folder: RunFolder, started: float) -> RunRecord:
    """Return what is known of a run whatever comes of its training."""
    initial = build_network(
        settings.plan, len(settings.plan.normalisation), len(settings.classes) + 1, settings.stream_seed, settings.fold
    )
    search = recorded_search(settings, folder)
    return RunRecord(
        loss=settings.loss.label,
        fold=settings.fold,
        seed=settings.seed,
        control=settings.loss.control,
        steps=settings.steps,
        seconds=seconds_now(torch.device(settings.device)) - started,
        precision=settings.precision,
        threads=settings.threads,
        device=settings.device,
        machine=platform.machine(),
        initial_weights_hash=weights_hash(initial),
        learning_rate_search=None if search is None else search.to_json(),
        cases=tuple(case.id for case in settings.validation),
    )


def _search_notes(settings: RunSettings, folder: RunFolder) -> list[str]:
    """Return a line where the learning rate is the fallback, which the progress and the report show."""
    search = recorded_search(settings, folder)
    if search is None or search.rule != "fallback":
        return []
    longest = max((probe.steps for probe in search.probes), default=None)
    why = "no held-out case shows any class" if longest is None else f"no rate beat chance in probes of {longest} steps"
    return [f"{why}; the learning rate is the default, {search.chosen:g}"]


def _write_collapsed(settings: RunSettings, folder: RunFolder, why: str, started: float) -> None:
    """Record a run that gave no usable network: a failure in every case, in a state of its own."""
    scores = failed_scores(settings.originals, settings.classes.values(), settings.plan.metrics)
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
