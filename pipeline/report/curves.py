"""Learning curves of every run with their means."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from markupsafe import Markup

from pipeline.records.events import Event, RestartEvent, ValidationEvent
from pipeline.records.run import RunTrace
from pipeline.report.styles import Styles
from pipeline.report.svg import WIDTH, Scale, chart, element, fragment, x_axis, y_axis

Point = tuple[float, float]
"""Step and value."""

Kind = TypeVar("Kind", bound=Event)

HEIGHT = 250
MAXIMUM_POINTS = 160
"""Points of one line; longer curves are thinned."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A value over the steps of one run; `series` is the loss whose style and mean it belongs to."""

    series: str
    name: str
    points: tuple[Point, ...]
    collapsed: bool = False


def last_training(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events after the last restart: a run that was trained again shows its last training only."""
    restarts = [index for index, event in enumerate(events) if isinstance(event, RestartEvent)]
    return events[restarts[-1] + 1 :] if restarts else events


def points_of(events: Sequence[Event], kind: type[Kind], value: Callable[[Kind], float | None]) -> tuple[Point, ...]:
    """Return the finite values of events of one kind, in order of their steps.

    A step that was repeated after an interruption has its last value.

    Examples
    --------
    >>> from pipeline.records.events import TrainEvent
    >>> events = [TrainEvent(step=10, loss=0.9), TrainEvent(step=20), TrainEvent(step=10, loss=0.8)]
    >>> points_of(events, TrainEvent, lambda event: event.loss)
    ((10.0, 0.8),)
    """
    points: dict[float, float] = {}
    for event in last_training(events):
        y = value(event) if isinstance(event, kind) else None
        if y is not None and math.isfinite(y):
            points[float(event.step)] = float(y)
    return tuple(sorted(points.items()))


def curves(runs: Sequence[RunTrace], kind: type[Kind], value: Callable[[Kind], float | None]) -> list[Curve]:
    """Return one curve for each run that has finite values in events of this kind."""
    each = [(run, points_of(run.events, kind, value)) for run in runs]
    return [Curve(run.key.loss, run.key.short_name, points, run.state == "collapsed") for run, points in each if points]


def class_mean(metric: str) -> Callable[[ValidationEvent], float | None]:
    """Return a function that averages a metric over the classes that have a value."""

    def mean(event: ValidationEvent) -> float | None:
        values = [value for value in event.by_class(metric).values() if value is not None]
        return float(np.mean(values)) if values else None

    return mean


def mean_curve(curves: Sequence[Curve]) -> list[Point]:
    """Return the mean over runs at the steps that more than half of them have; collapsed runs are left out.

    Examples
    --------
    >>> mean_curve([Curve("ce", "seed 0", ((10, 1.0), (20, 2.0))), Curve("ce", "seed 1", ((10, 3.0),))])
    [(10, 2.0)]
    """
    values_at: dict[float, list[float]] = {}
    for curve in curves:
        if not curve.collapsed:
            for step, value in curve.points:
                values_at.setdefault(step, []).append(value)
    most = max((len(values) for values in values_at.values()), default=0)
    return [(step, float(np.mean(values))) for step, values in sorted(values_at.items()) if 2 * len(values) > most]


def curve_plot(curves: Sequence[Curve], label: str, styles: Styles, *, logarithmic: bool = False) -> Markup | None:
    """Return all runs as thin lines and the mean of each series as a thick one; collapsed runs are dotted.

    Returns None if there is no curve.
    """
    if not curves:
        return None
    return chart(WIDTH, HEIGHT, f"{label} over steps", curve_panel(curves, styles, logarithmic=logarithmic))


def curve_panel(curves: Sequence[Curve], styles: Styles, *, logarithmic: bool = False) -> Markup:
    """Return axes and lines of `curve_plot`, to be placed inside a figure of `WIDTH` x `HEIGHT`."""
    left, bottom = 46.0, HEIGHT - 36.0
    values = np.array([y for curve in curves for _, y in curve.points])
    # A few spikes, e.g. of the loss at the first steps, must not flatten all other values.
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    across = Scale(0, max(x for curve in curves for x, _ in curve.points), left, WIDTH - 12)
    up = Scale.around([low, high], bottom, 8, logarithmic=logarithmic and low > 0)
    parts = [x_axis(across, 8, bottom, "steps"), y_axis(up, left, WIDTH - 12)]
    for curve in curves:
        style = styles[curve.series]
        dash = "1 3" if curve.collapsed else style.dash
        parts.append(_line(curve, across, up, class_="thin", stroke=style.color, stroke_dasharray=dash))
    for series in dict.fromkeys(curve.series for curve in curves):
        own = [curve for curve in curves if curve.series == series]
        mean = mean_curve(own)
        if mean and len(own) > 1:
            style = styles[series]
            curve = Curve(series, f"{series}: mean of {len(own)} runs", tuple(mean))
            parts.append(_line(curve, across, up, class_="thick", stroke=style.color, stroke_dasharray=style.dash))
    return fragment(parts)


def _line(curve: Curve, across: Scale, up: Scale, **attributes: str | None) -> Markup:
    *points, last = curve.points
    thinned = points[:: max(1, len(points) // MAXIMUM_POINTS)]
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in [*thinned, last])
    return element("polyline", element("title", curve.name), points=path, **attributes)
