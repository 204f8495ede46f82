"""Points of curves, as plain values, from the events of a run and from the table of results."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.records.events import Event, RestartEvent, SystemEvent, TrainEvent, ValidationEvent
from pipeline.records.metrics import metric_of
from pipeline.tracking.names import class_name, safe_name

CURVES = ("dice", "hausdorff_mm", "hausdorff95_mm")
"""Metrics of a validation during training."""

SURFACES = CURVES[1:]
_TRAIN = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "gradient_norm_max": "train/gradient_norm_max",
}
_STATES = ("ok", "missed", "false_positive", "correct_absence", "collapsed")


@dataclass(frozen=True, slots=True)
class Groups:
    """What the names of means, means of a class and counts begin with."""

    means: str
    classes: str
    counts: str


OF_RUN = Groups("final/", "final/", "counts/final/")
OF_LOSS = Groups("", "per_class/", "states/")
"""MLflow's compare page lists metrics by name and shows seven: Dice and Hausdorff have to be among them."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one curve; `seconds` is the training time, from which MLflow's time axis is made."""

    key: str
    step: int
    value: float
    seconds: float


def run_points(events: Iterable[Event]) -> list[Point]:
    """Return the curves of a run, one point for each key and step, finite values only.

    A run that was trained anew (`restart`) shows its last training alone, and a step that was taken again after a stop
    shows its last value.
    """
    found: dict[tuple[str, int], Point] = {}
    seconds = 0.0
    for event in events:
        if isinstance(event, RestartEvent):
            found.clear()
        seconds = (event.seconds if isinstance(event, TrainEvent | ValidationEvent) else None) or seconds
        for key, value in _values(event):
            if value is not None and math.isfinite(value):
                point = Point(safe_name(key), event.step, float(value), seconds)
                found[point.key, point.step] = point
    return list(found.values())


def _values(event: Event) -> Iterable[tuple[str, float | None]]:
    if isinstance(event, TrainEvent):
        yield from ((key, getattr(event, name)) for name, key in _TRAIN.items())
    elif isinstance(event, SystemEvent):
        yield "system/cpu_percent", event.cpu_percent
        yield "system/memory_mb", event.memory_mb
    elif isinstance(event, ValidationEvent):
        yield "val/dice", event.mean_dice
        for metric in SURFACES:
            finite = [v for v in event.by_class(metric).values() if v is not None and math.isfinite(v)]
            yield f"val/{metric}", sum(finite) / len(finite) if finite else None
        for metric in CURVES:
            yield from ((f"val/{class_name(label)}/{metric}", v) for label, v in event.by_class(metric).items())
        yield from ((f"counts/val/{state}", count) for state, count in event.counts.to_json().items())


def best_points(points: Sequence[Point], at: int, seconds: float) -> list[Point]:
    """Return the best of each validation curve under its own key: the table of runs shows the last value only."""
    best: list[Point] = []
    for metric in CURVES:
        values = [point.value for point in points if point.key == f"val/{metric}"]
        if values:
            chosen = max(values) if metric_of(metric).higher_is_better else min(values)
            best.append(Point(f"best/{metric}", at, chosen, seconds))
    return best


def table_points(table: pd.DataFrame, groups: "Groups", step: int, seconds: float) -> list[Point]:
    """Return the mean of each metric over classes, each class's mean over cases, and the counts behind them.

    Values count as in the comparison (`pipeline.comparison.pairing`): a correct absence is the best value, a collapsed
    run a failure in every case. The mean of a metric is the mean over its classes, without those that no case shows.
    """
    usable = _scored(table)
    values: dict[str, float] = {}
    for metric, rows in usable.groupby("metric", sort=False):
        by_class = rows.groupby("class", sort=False)["value"].mean()
        values[f"{groups.means}{metric}"] = float(by_class.mean())
        if len(by_class) > 1:
            for label, value in by_class.items():
                values[f"{groups.classes}{class_name(str(label))}/{metric}"] = float(value)
    dice = table[table["metric"] == "dice"]
    for state in _STATES:
        values[f"{groups.counts}{state}"] = float((dice["state"] == state).sum())
    return [Point(safe_name(key), step, value, seconds) for key, value in values.items() if _is_finite(value)]


def _scored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a value, those of absences and of collapsed runs completed where the metric has an end."""
    metrics = {name: metric_of(str(name)) for name in table["metric"].unique()}
    best, worst = (
        table["metric"].map({name: getattr(metric, end) for name, metric in metrics.items()}).astype("float64")
        for end in ("best", "worst")
    )
    value = table["value"].mask(table["value"].isna() & (table["state"] == "correct_absence"), best)
    value = value.mask(value.isna() & (table["state"] == "collapsed"), worst)
    nothing = table["state"].isin(["correct_absence", "false_positive"])
    shown = table.loc[~nothing, "class"].unique()
    kept = value.notna() & (table["class"].isin(shown) if len(shown) else True)
    return table.assign(value=value)[kept]


def mean_curves(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Return the mean over runs of each validation curve and the training loss, where every run has the step."""
    gathered: dict[tuple[str, int], list[Point]] = {}
    for points in runs:
        for point in points:
            if point.key.startswith("val/") or point.key == "train/loss":
                gathered.setdefault((point.key, point.step), []).append(point)
    return [
        Point(key, step, math.fsum(p.value for p in same) / len(same), math.fsum(p.seconds for p in same) / len(same))
        for (key, step), same in gathered.items()
        if len(same) == len(runs)
    ]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
