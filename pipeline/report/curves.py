"""Learning curves of every run with their means, and what they say in numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from markupsafe import Markup
from scipy import stats

from pipeline.records.events import Event, TrainEvent, ValidationEvent
from pipeline.records.run import RunTrace
from pipeline.report.figures import Styles
from pipeline.report.svg import WIDTH, Scale, chart, tag, x_axis, y_axis

Point = tuple[float, float]
Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True, slots=True)
class Curve:
    """A value over steps in one run."""

    loss: str
    name: str
    points: tuple[Point, ...]
    collapsed: bool


def curves(runs: Sequence[RunTrace], kind: type[Kind], value: Callable[[Kind], float | None]) -> list[Curve]:
    """Return one curve for each run that has such events; undefined values leave a gap out."""
    found = []
    for run in runs:
        points = [(float(event.step), value(event)) for event in run.of_kind(kind)]
        whole = tuple((step, float(y)) for step, y in points if y is not None and math.isfinite(y))
        if whole:
            found.append(Curve(run.key.loss, run.key.short_name, whole, run.state == "collapsed"))
    return found


def class_mean(metric: str) -> Callable[[ValidationEvent], float | None]:
    """Return a function that averages a metric over the classes that have a value."""

    def mean(event: ValidationEvent) -> float | None:
        values = [value for value in event.by_class(metric).values() if value is not None]
        return float(np.mean(values)) if values else None

    return mean


def mean_curve(found: Sequence[Curve]) -> list[Point]:
    """Return the mean at the steps that most runs have reached; collapsed runs are not averaged in."""
    at: dict[float, list[float]] = {}
    for curve in found:
        if not curve.collapsed:
            for step, value in curve.points:
                at.setdefault(step, []).append(value)
    most = max((len(values) for values in at.values()), default=0)
    return [(step, float(np.mean(values))) for step, values in sorted(at.items()) if 2 * len(values) > most]


def curve_plot(found: Sequence[Curve], label: str, styles: Styles, *, logarithmic: bool = False) -> Markup | None:
    """Return all runs as thin lines and the mean of each loss as a thick one; collapsed runs are dotted."""
    if not found:
        return None
    left, bottom = 46.0, 214.0
    values = np.array([y for curve in found for _, y in curve.points])
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    across = Scale(0, max(x for curve in found for x, _ in curve.points), left, WIDTH - 12)
    up = Scale.around([low, high], bottom, 8, logarithmic=logarithmic and low > 0)
    parts = [x_axis(across, 8, bottom, "steps"), y_axis(up, left, WIDTH - 12)]
    for curve in found:
        style = styles[curve.loss]
        dash = "1 3" if curve.collapsed else style.dash
        parts.append(_line(curve.points, across, up, style.color, "thin", dash, curve.name))
    for loss in dict.fromkeys(curve.loss for curve in found):
        own = [curve for curve in found if curve.loss == loss]
        mean = mean_curve(own)
        if mean and len(own) > 1:
            style = styles[loss]
            parts.append(_line(mean, across, up, style.color, "thick", style.dash, f"{loss}: mean of {len(own)} runs"))
    return chart(WIDTH, bottom + 36, f"{label} over steps", *parts)


def _line(
    points: Sequence[Point], across: Scale, up: Scale, color: str, kind: str, dash: str | None, said: str
) -> Markup:
    thinned = points[:: max(1, len(points) // 160)]
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in [*thinned, points[-1]])
    return tag("polyline", tag("title", said), points=path, stroke=color, class_=kind, stroke_dasharray=dash)


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the curves of one loss say; each value is the median over its runs, None where it was not recorded.

    Attributes
    ----------
    learning_rates
        Chosen by the search, the most frequent first.
    gradient_norm, spike
        Norm of the gradient over the weights, and its largest value over its median.
    foreground_share
        Share of the gradient with respect to the logits that lies on foreground.
    agreement
        Cosine between the gradients of two successive batches.
    roughness
        Mean change of the recorded training loss from one record to the next, in the second half of the training, in
        percent of the fall of the loss over the whole training.
    correlation
        Spearman's correlation of training loss and validation Dice over the points of validation; near -1 is what one
        hopes for.
    """

    learning_rates: tuple[float, ...]
    gradient_norm: float | None
    spike: float | None
    foreground_share: float | None
    agreement: float | None
    roughness: float | None
    correlation: float | None


def diagnose(runs: Sequence[RunTrace]) -> Diagnostics:
    """Return the diagnostics of the runs of one loss."""
    each: dict[str, list[float]] = {
        name: [] for name in ("norm", "spike", "share", "agreement", "roughness", "correlation")
    }
    rates: dict[float, int] = {}
    for run in runs:
        train = run.of_kind(TrainEvent)
        norms = _defined(event.gradient_norm for event in train)
        largest = _defined(event.gradient_norm_max for event in train) or norms
        if norms and np.median(norms) > 0:
            each["norm"].append(float(np.median(norms)))
            each["spike"].append(max(largest) / float(np.median(norms)))
        shares = _defined(event.logit_gradient_foreground for event in train)
        if shares:
            each["share"].append(float(np.median(shares)))
        agreements = _defined(event.gradient_agreement for event in train)
        if agreements:
            each["agreement"].append(float(np.median(agreements)))
        losses = _defined(event.loss for event in train)
        if len(losses) > 7 and losses[0] > losses[-1]:
            half = np.diff(losses[len(losses) // 2 :])
            each["roughness"].append(100 * float(np.abs(half).mean()) / (losses[0] - losses[-1]))
        correlation = _correlation(run)
        if correlation is not None:
            each["correlation"].append(correlation)
        rate = run.record.learning_rate if run.record is not None else None
        if rate is not None:
            rates[rate] = rates.get(rate, 0) + 1
    medians = {name: float(np.median(values)) if values else None for name, values in each.items()}
    return Diagnostics(
        tuple(sorted(rates, key=lambda rate: (-rates[rate], rate))),
        medians["norm"],
        medians["spike"],
        medians["share"],
        medians["agreement"],
        medians["roughness"],
        medians["correlation"],
    )


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _correlation(run: RunTrace) -> float | None:
    """Return the correlation of the training loss since the last validation with the Dice of each validation."""
    dice = [(event.step, event.mean_dice) for event in run.of_kind(ValidationEvent)]
    train = [(event.step, event.loss) for event in run.of_kind(TrainEvent)]
    pairs, before = [], 0
    for step, value in dice:
        between = [loss for at, loss in train if before < at <= step and loss is not None]
        if between and value is not None:
            pairs.append((float(np.mean(between)), float(value)))
        before = step
    if len(pairs) < 4 or len({x for x, _ in pairs}) < 2 or len({y for _, y in pairs}) < 2:
        return None
    return float(stats.spearmanr(*np.array(pairs).T).statistic)
