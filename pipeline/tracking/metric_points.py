"""Points of MLflow's metrics, as plain values, from the events of a run and from the table of results."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import pandas as pd

from pipeline.records.events import Event, RestartEvent, SystemEvent, TrainEvent, ValidationEvent
from pipeline.records.metrics import metric_of
from pipeline.tracking.mlflow_limits import safe_name, safe_part

CURVES = ("dice", "hausdorff_mm", "hausdorff95_mm")
"""Metrics of a validation during training."""

DISTANCES = CURVES[1:]

_TRAIN = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "gradient_norm_max": "train/gradient_norm_max",
}
_STATES = ("ok", "missed", "false_positive", "correct_absence", "collapsed")


@dataclass(frozen=True, slots=True)
class MetricPrefixes:
    """Beginnings of the metric names of a table: of means over classes, of means of one class, and of counts."""

    means: str
    classes: str
    counts: str


TRAINING_PREFIXES = MetricPrefixes("final/", "final/", "counts/final/")

SUMMARY_PREFIXES = MetricPrefixes("", "per_class/", "states/")
"""MLflow's compare page lists metrics by name and shows seven: Dice and Hausdorff must be among them."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of one metric.

    Attributes
    ----------
    key
        Name of the metric.
    step
        Optimizer step, or number of runs in a summary.
    value
        A finite number.
    seconds
        Training time so far, in seconds, from which the time axis of MLflow is derived.
    """

    key: str
    step: int
    value: float
    seconds: float


def curve_points(events: Iterable[Event]) -> list[MetricPoint]:
    """Return the curves of a run, one point for each key and step, finite values only.

    A run that was restarted shows its last training alone, and a step that was repeated after a stop shows its last
    value.

    Examples
    --------
    >>> curve_points([TrainEvent(step=10, loss=0.5, seconds=2.0)])
    [MetricPoint(key='train/loss', step=10, value=0.5, seconds=2.0)]
    """
    points: dict[tuple[str, int], MetricPoint] = {}
    seconds = 0.0
    for event in events:
        if isinstance(event, RestartEvent):
            points.clear()
        seconds = (event.seconds if isinstance(event, TrainEvent | ValidationEvent) else None) or seconds
        for key, value in _values(event):
            if _is_finite(value):
                point = MetricPoint(safe_name(key), event.step, float(value), seconds)
                points[point.key, point.step] = point
    return list(points.values())


def _values(event: Event) -> Iterator[tuple[str, float | None]]:
    if isinstance(event, TrainEvent):
        yield from ((key, getattr(event, name)) for name, key in _TRAIN.items())
    elif isinstance(event, SystemEvent):
        yield "system/cpu_percent", event.cpu_percent
        yield "system/memory_mb", event.memory_mb
    elif isinstance(event, ValidationEvent):
        yield "val/dice", event.mean_dice
        for metric in DISTANCES:
            finite = [value for value in event.by_class(metric).values() if _is_finite(value)]
            yield f"val/{metric}", sum(finite) / len(finite) if finite else None
        for metric in CURVES:
            yield from ((f"val/{safe_part(label)}/{metric}", v) for label, v in event.by_class(metric).items())
        yield from ((f"counts/val/{state}", count) for state, count in event.counts.to_json().items())


def best_points(points: Sequence[MetricPoint], step: int, seconds: float) -> list[MetricPoint]:
    """Return the best value of each validation curve under a key of its own; MLflow's table shows the last value only.

    Parameters
    ----------
    points
        Curves of a run.
    step, seconds
        Where the new points stand: last step, and training time in seconds.
    """
    best: list[MetricPoint] = []
    for metric in CURVES:
        values = [point.value for point in points if point.key == f"val/{metric}"]
        if values:
            chosen = max(values) if metric_of(metric).higher_is_better else min(values)
            best.append(MetricPoint(f"best/{metric}", step, chosen, seconds))
    return best


def table_points(table: pd.DataFrame, prefixes: MetricPrefixes, step: int, seconds: float) -> list[MetricPoint]:
    """Return the mean of each metric over classes, the mean of each class over cases, and the counts behind them.

    Values count as in the comparison (`pipeline.comparison.long_table`): a correct absence is the best value, a
    collapsed run a failure in every case. The mean of a metric is the mean over its classes, without those that no case
    shows.

    Parameters
    ----------
    table
        Long table of results.
    prefixes
        Beginnings of the metric names.
    step, seconds
        Where the points stand: step, and training time in seconds.
    """
    usable = _scored(table)
    values: dict[str, float] = {}
    for metric, rows in usable.groupby("metric", sort=False):
        by_class = rows.groupby("class", sort=False)["value"].mean()
        values[f"{prefixes.means}{metric}"] = float(by_class.mean())
        if len(by_class) > 1:
            for label, value in by_class.items():
                values[f"{prefixes.classes}{safe_part(str(label))}/{metric}"] = float(value)
    dice = table[table["metric"] == "dice"]
    for state in _STATES:
        values[f"{prefixes.counts}{state}"] = float((dice["state"] == state).sum())
    return [MetricPoint(safe_name(key), step, value, seconds) for key, value in values.items() if math.isfinite(value)]


def _scored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a value; absences and collapsed runs get the best and worst value of a bounded metric."""
    metrics = {name: metric_of(str(name)) for name in table["metric"].unique()}
    best, worst = (
        table["metric"].map({name: getattr(metric, end) for name, metric in metrics.items()}).astype("float64")
        for end in ("best", "worst")
    )
    value = table["value"].mask(table["value"].isna() & (table["state"] == "correct_absence"), best)
    value = value.mask(value.isna() & (table["state"] == "collapsed"), worst)
    absent = table["state"].isin(["correct_absence", "false_positive", "not_annotated"])
    shown = table.loc[~absent, "class"].unique()
    usable = value.notna() & (table["class"].isin(shown) if len(shown) else True)
    return table.assign(value=value)[usable]


def mean_curves(runs: Sequence[Sequence[MetricPoint]]) -> list[MetricPoint]:
    """Return the mean over runs of each validation curve and of the training loss, at steps that every run has."""
    gathered: dict[tuple[str, int], list[MetricPoint]] = {}
    for points in runs:
        for point in points:
            if point.key.startswith("val/") or point.key == "train/loss":
                gathered.setdefault((point.key, point.step), []).append(point)
    return [
        MetricPoint(
            key, step, math.fsum(p.value for p in same) / len(same), math.fsum(p.seconds for p in same) / len(same)
        )
        for (key, step), same in gathered.items()
        if len(same) == len(runs)
    ]


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
