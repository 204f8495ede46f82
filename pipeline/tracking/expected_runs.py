"""The MLflow runs that the records of a study call for, as plain values."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd

from pipeline.records.events import RateSearchEvent
from pipeline.records.folder import RunFolder
from pipeline.records.run import RunRecord, RunTrace
from pipeline.records.table import read_table
from pipeline.records.verdict import Verdict
from pipeline.tracking.artifacts import write_run_artifacts, write_study_artifacts
from pipeline.tracking.metric_points import (
    SUMMARY_PREFIXES,
    TRAINING_PREFIXES,
    MetricPoint,
    best_points,
    curve_points,
    mean_curves,
    table_points,
)
from pipeline.tracking.mlflow_limits import LONGEST_PARAM, LONGEST_TAG, truncated
from pipeline.tracking.origin import origin_tags
from pipeline.tracking.run_names import (
    STUDY_KEY,
    study_name,
    summary_key,
    summary_name,
    training_key,
    training_name,
)
from pipeline.tracking.study_records import StudyRecords
from pipeline.version import __version__

Params = Mapping[str, object]
"""Parameters by name; None and empty text are left out."""


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """The cases of a dataset, by pseudonym, that a run used for a purpose (`context`)."""

    name: str
    context: str
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpectedRun:
    """One MLflow run as the records call for it.

    Attributes
    ----------
    key
        Identity within the study.
    name
        Name that MLflow shows.
    started_ms
        Start in milliseconds since 1970.
    tags, params, points, datasets
        Content of the run.
    finished
        True if nothing will be added.
    seconds
        Duration so far, in seconds.
    parent
        Key of the parent run.
    sources
        Files from which the artifacts are made.
    write_artifacts
        Writes the artifacts into a folder.
    """

    key: str
    name: str
    started_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[MetricPoint, ...] = ()
    datasets: tuple[DatasetUse, ...] = ()
    finished: bool = False
    seconds: float = 0.0
    parent: str | None = None
    sources: tuple[Path, ...] = ()
    write_artifacts: Callable[[Path], None] | None = field(default=None, compare=False)

    def digest(self, status: str) -> str:
        """Return a hash of everything that MLflow should show; a run that carries it is up to date."""
        content = hashlib.sha256()
        values = (self.name, sorted(self.tags.items()), sorted(self.params.items()), self.points, self.parent, status)
        content.update(repr(values).encode())
        for path in self.sources:
            content.update(path.read_bytes() if path.exists() else b"-")
        return content.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Training:
    """A run that has begun, and the MLflow run that it calls for."""

    trace: RunTrace
    expected: ExpectedRun


def expected_runs(records: StudyRecords) -> list[ExpectedRun]:
    """Return the run of the study, a summary of each loss, and a run for each training that has begun."""
    trainings = [_Training(t, _training_run(records, t)) for t in records.traces if t.state != "not begun"]
    losses = list(dict.fromkeys(trace.key.loss for trace in records.traces))
    summaries = [_summary_run(records, loss, _finished_in_order(records, loss, trainings)) for loss in losses]
    finished = sum(training.expected.finished for training in trainings)
    return [_study_run(records, finished), *summaries, *(training.expected for training in trainings)]


def _finished_in_order(records: StudyRecords, loss: str, trainings: Sequence[_Training]) -> list[_Training]:
    """Return the finished trainings of a loss, up to the first planned one that has not finished."""
    by_key = {training.trace.key: training for training in trainings if training.expected.finished}
    ordered = []
    for trace in records.traces:
        if trace.key.loss == loss:
            if trace.key not in by_key:
                break
            ordered.append(by_key[trace.key])
    return ordered


def _study_run(records: StudyRecords, finished: int) -> ExpectedRun:
    """Return the run that stands for the whole study."""
    settings, verdict, folder = records.settings, records.verdict, records.folder
    scope = records.planned_scope  # Parameters cannot be changed in MLflow, so that they come from the settings alone.
    note = [f"{settings.name}: {len(settings.losses)} losses, {settings.folds} folds"]
    note += [_headline(verdict)] if verdict else []
    tags = {"mlflow.note.content": "\n\n".join([*note, *records.scope.words])}
    if verdict:
        tags["whichloss.verdict"] = verdict.verdict
        if verdict.recommended:
            tags["whichloss.recommended"] = verdict.recommended
    params = {
        "losses": ", ".join(settings.labels),
        "folds": settings.folds,
        "seeds": ", ".join(map(str, settings.seeds)),
        "budget": settings.budget.asked,
        "steps": settings.budget.steps,
        "dataset": settings.dataset.name,
        "cases": settings.dataset.cases,
        "precision": settings.precision,
        "optimizer": settings.optimizer,
        "schedule": scope.schedule,
        "epochs": None if scope.epochs is None else f"{scope.epochs:.4g}",
        "network": scope.network,
        "channels": ", ".join(map(str, scope.channels or ())),
        "patch": ", ".join(map(str, scope.patch or ())),
        "test_time_augmentation": settings.request.tta or None,
    }
    points = (MetricPoint("runs/finished", count, float(count), 0.0) for count in range(1, finished + 1))
    return ExpectedRun(
        key=STUDY_KEY,
        name=study_name(settings),
        started_ms=_created_ms(records),
        tags=_tags(records, "study", tags),
        params=_param_texts(params),
        points=tuple(points),
        datasets=(DatasetUse(settings.dataset.name, "study", tuple(sorted(records.pseudonyms.values()))),),
        finished=finished == len(records.traces),
        sources=(folder.settings, folder.verdict, folder.report, folder.cases),
        write_artifacts=lambda into: write_study_artifacts(records, into),
    )


def _training_run(records: StudyRecords, trace: RunTrace) -> ExpectedRun:
    """Return the run of one training, whether or not it has finished."""
    key, record, folder = trace.key, trace.record, trace.folder
    points = curve_points(trace.events)
    seconds = max((point.seconds for point in points), default=0.0)
    params: dict[str, object] = {
        "loss": key.loss,
        "fold": key.fold,
        "seed": key.seed,
        "steps": records.settings.budget.steps,
    }
    tags = {"whichloss.loss": key.loss, "whichloss.fold": str(key.fold), "whichloss.seed": str(key.seed)}
    searches = trace.of_kind(RateSearchEvent)
    if searches:
        tags["whichloss.learning_rate_search"] = json.dumps(searches[-1].candidates)
    if record is not None:
        seconds = record.seconds or seconds
        points += _result_points(points, folder, record, seconds)
        params |= {"learning_rate": record.learning_rate, "precision": record.precision}
        tags["whichloss.state"] = record.state
        if record.feed_hash:
            tags["whichloss.feed_hash"] = record.feed_hash
        tags["mlflow.note.content"] = f"collapsed: {record.why}" if record.why else records.formula(key.loss)

    def write_artifacts(into: Path) -> None:
        if record is not None:
            write_run_artifacts(records, trace, record, into)

    return ExpectedRun(
        key=training_key(key),
        name=training_name(key),
        started_ms=_started_ms(folder, seconds),
        tags=_tags(records, "run", tags),
        params=_param_texts(params),
        points=tuple(points),
        datasets=_dataset_uses(records, record),
        finished=record is not None,
        seconds=seconds,
        parent=STUDY_KEY,
        sources=(folder.record, folder.cases) if record else (),
        write_artifacts=write_artifacts if record else None,
    )


def _result_points(
    curves: Sequence[MetricPoint], folder: RunFolder, record: RunRecord, seconds: float
) -> list[MetricPoint]:
    """Return the points that follow from the record of a finished training, all at its last step."""
    step = record.steps or 0
    times = {"seconds": record.seconds, "training_seconds": record.training_seconds}
    return [
        *best_points(curves, step, seconds),
        *table_points(read_table(folder.cases), TRAINING_PREFIXES, step, seconds),
        *(MetricPoint(f"time/{name}", step, time, seconds) for name, time in times.items() if time is not None),
    ]


def _summary_run(records: StudyRecords, loss: str, finished: Sequence[_Training]) -> ExpectedRun:
    """Return the summary of one loss.

    Its point at step n is the mean over the first n trainings in the order of the plan, so that it never changes.
    """
    planned = sum(trace.key.loss == loss for trace in records.traces)
    points: list[MetricPoint] = []
    tables: list[pd.DataFrame] = []
    seconds = 0.0
    for count, training in enumerate(finished, start=1):
        tables.append(read_table(training.trace.folder.cases))
        seconds += training.expected.seconds
        points += table_points(pd.concat(tables, ignore_index=True), SUMMARY_PREFIXES, count, seconds)
        points.append(MetricPoint("runs/finished", count, float(count), seconds))
    complete = len(finished) == planned
    params: dict[str, object] = {"loss": loss, "runs": planned}
    note = [f"{loss} over {planned} runs: {records.formula(loss)}", *records.scope.words]
    tags = {"whichloss.loss": loss, "mlflow.note.content": "\n\n".join(note)}
    if complete:
        runs = [training.expected for training in finished]
        points += mean_curves([run.points for run in runs])
        points.append(MetricPoint("time/seconds", planned, seconds / planned, seconds))
        rates = sorted({run.params["learning_rate"] for run in runs if run.params.get("learning_rate")})
        params |= {"learning_rate": ", ".join(rates), "steps": records.settings.budget.steps}
        params["optimizer"] = records.settings.optimizer
        collapsed = sum(run.tags.get("whichloss.state") == "collapsed" for run in runs)
        points.append(MetricPoint("runs/collapsed", planned, float(collapsed), seconds))
    return ExpectedRun(
        key=summary_key(loss),
        name=summary_name(loss),
        started_ms=_created_ms(records),
        tags=_tags(records, "summary", tags),
        params=_param_texts(params),
        points=tuple(points),
        finished=complete,
        seconds=seconds,
    )


def _dataset_uses(records: StudyRecords, record: RunRecord | None) -> tuple[DatasetUse, ...]:
    """Return the cases of a finished training and its held-out cases."""
    if record is None or not record.cases:
        return ()
    held_out, name = set(record.cases), records.settings.dataset.name
    training = tuple(sorted(alias for case, alias in records.pseudonyms.items() if case not in held_out))
    validation = tuple(sorted(records.pseudonyms[case] for case in held_out if case in records.pseudonyms))
    return DatasetUse(name, "training", training), DatasetUse(name, "validation", validation)


def _tags(records: StudyRecords, kind: str, tags: Mapping[str, str]) -> dict[str, str]:
    common = {
        "whichloss.study_id": records.id,
        "whichloss.study": records.settings.name,
        "whichloss.kind": kind,
        "whichloss.version": records.settings.segloss or __version__,
        "mlflow.source.name": "whichloss study",
        "mlflow.source.type": "LOCAL",
    }
    return {key: truncated(value, LONGEST_TAG) for key, value in (common | origin_tags() | dict(tags)).items()}


def _param_texts(params: Params) -> dict[str, str]:
    return {key: truncated(str(value), LONGEST_PARAM) for key, value in params.items() if value not in (None, "")}


def _headline(verdict: Verdict) -> str:
    """Return kind and recommendation of a verdict; without replicated trainings there is neither."""
    if not verdict.replicated:
        return "Verdict: **none**, each loss was trained once"
    return f"Verdict: **{verdict.verdict}**, recommended: **{verdict.recommended}**"


def _created_ms(records: StudyRecords) -> int:
    created = records.settings.created
    return int(datetime.fromisoformat(created).timestamp() * 1000) if created else 0


def _started_ms(folder: RunFolder, seconds: float) -> int:
    """Return the start of a run by the time of its last file: events hold seconds since then, not the time of day."""
    last = folder.record if folder.record.exists() else folder.events
    return int((last.stat().st_mtime - seconds) * 1000)
