"""The figure of a sweep, as an SVG file and in a self-contained page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from pipeline.comparison.phrases import counted
from pipeline.records.metrics import metric_of
from pipeline.report.formatting import NO_VALUE, number
from pipeline.report.page import render_page
from pipeline.report.styles import LossStyle, Styles, styles_of
from pipeline.report.svg import (
    WIDTH,
    Scale,
    chart,
    element,
    fragment,
    legend,
    standalone_figure,
    text,
    x_axis,
    y_axis,
)
from pipeline.report.sweep import METRICS, LevelVerdict, SweepPoint

LEFT, TOP, BOTTOM = 46.0, 10.0, 232.0


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """Settings of a sweep that the page shows.

    Attributes
    ----------
    cases
        Phantoms of each fraction.
    shape
        Voxels along each axis of a phantom.
    folds
        Folds at each fraction.
    budget
        Training budget per run as requested, e.g. ``200steps``.
    command
        Command line of the sweep.
    """

    cases: int
    shape: tuple[int, ...]
    folds: int
    budget: str
    command: str = "whichloss sweep"

    @property
    def description(self) -> str:
        """The design of the sweep in sentences."""
        budget = re.sub(r"(?<=\d)(?=[a-z])", " ", self.budget)
        return (
            f"The same losses were trained on phantoms with less and less foreground: {self.cases} phantoms of "
            f"{'×'.join(map(str, self.shape))} voxels at each fraction, {self.folds} folds, {budget} per training. "
            "Every case is predicted by networks that never saw it. There is one class, and the patch is the whole "
            "volume, so that its share of foreground is that of the axis."
        )


def percent_label(fraction: float) -> str:
    """Return a fraction (0 to 1) in percent with as many digits as it needs.

    Examples
    --------
    >>> percent_label(0.0003)
    '0.03 %'
    """
    return f"{100 * fraction:g} %"


def losses_of(points: Sequence[SweepPoint]) -> list[str]:
    """Return the losses of a sweep, in the order of its points."""
    return list(dict.fromkeys(point.loss for point in points))


def sweep_panel(points: Sequence[SweepPoint], metric: str, styles: Styles) -> Markup:
    """Return one metric with its 95 % bands over the foreground fraction in percent, on a logarithmic axis."""
    label = f"{metric_of(metric).heading} over the foreground fraction"
    return chart(WIDTH, BOTTOM + 36, label, _panel(points, metric, styles))


def _panel(points: Sequence[SweepPoint], metric: str, styles: Styles) -> Markup:
    shown = [point for point in points if point.metric == metric]
    across = Scale.around([100 * point.fraction for point in shown], LEFT + 8, WIDTH - 16, logarithmic=True)
    bounds = [bound for point in shown for bound in (point.low, point.high) if bound is not None]
    largest = 1.0 if metric == "dice" else 1.05 * max(bounds, default=1.0)
    up = Scale(0.0, largest, BOTTOM, TOP)
    parts = [x_axis(across, TOP, BOTTOM, "foreground, % of all voxels"), y_axis(up, LEFT, WIDTH - 12)]
    for index, loss in enumerate(styles):
        style, own = styles[loss], [point for point in shown if point.loss == loss]
        parts.append(_band(own, across, up, style.color))
        parts.append(_line(own, across, up, style))
        parts += [_mark(point, point.mean, across, up, style.color) for point in own if point.mean is not None]
        offset = 9 * (index - (len(styles) - 1) / 2)
        parts += [_cross(point, across(100 * point.fraction) + offset, style.color) for point in own if point.collapsed]
    return fragment(parts)


def _band(own: Sequence[SweepPoint], across: Scale, up: Scale, color: str) -> Markup:
    known = [(across(100 * p.fraction), up(p.low), up(p.high)) for p in own if p.low is not None and p.high is not None]
    if len(known) < 2:
        return Markup("")
    outline = [(x, low) for x, low, _ in known] + [(x, high) for x, _, high in reversed(known)]
    return element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in outline), fill=color, class_="sweep-band")


def _line(own: Sequence[SweepPoint], across: Scale, up: Scale, style: LossStyle) -> Markup:
    """Return the segments between neighbors, dashed across a fraction without a mean."""
    known = [
        (index, across(100 * point.fraction), up(point.mean))
        for index, point in enumerate(own)
        if point.mean is not None
    ]
    parts = []
    for (first, x1, y1), (second, x2, y2) in pairwise(known):
        path = f"{x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f}"
        dash = "3 4" if second - first > 1 else style.dash
        parts.append(element("polyline", points=path, stroke=style.color, stroke_dasharray=dash, class_="sweep-line"))
    return fragment(parts)


def _mark(point: SweepPoint, mean: float, across: Scale, up: Scale, color: str) -> Markup:
    return element(
        "circle",
        element("title", point_sentence(point)),
        cx=across(100 * point.fraction),
        cy=up(mean),
        r=3.6,
        stroke=color,
        fill="#fff" if point.collapsed else color,
    )


def _cross(point: SweepPoint, x: float, color: str) -> Markup:
    y, r = BOTTOM - 7.0, 3.5
    path = f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}L{x + r:.1f} {y - r:.1f}"
    return element("path", element("title", point_sentence(point)), d=path, stroke=color, stroke_width=2.0, fill="none")


def point_sentence(point: SweepPoint) -> str:
    """Return a point in words, for the text shown on hover."""
    runs = f"{point.collapsed} of {point.runs} runs collapsed" if point.collapsed else f"{point.runs} runs"
    mean = (
        "no result" if point.mean is None else f"{metric_of(point.metric).heading} {number(point.mean, point.metric)}"
    )
    return f"{point.loss} at {percent_label(point.fraction)}: {mean}, {runs}"


def sweep_figure(points: Sequence[SweepPoint]) -> str:
    """Return the text of an SVG file with both metrics side by side and a legend."""
    losses = losses_of(points)
    styles = styles_of(losses)
    height = BOTTOM + 92
    panels = [
        element(
            "g",
            text(LEFT, -8, metric_of(metric).heading, class_="title"),
            _panel(points, metric, styles),
            transform=f"translate({place * WIDTH} 24)",
        )
        for place, metric in enumerate(METRICS)
    ]
    label = "Dice and 95 % Hausdorff distance over the foreground fraction"
    return standalone_figure(2 * WIDTH, height, label, *panels, legend(styles, losses, LEFT, height - 14))


def point_texts(point: SweepPoint | None) -> tuple[str, str]:
    """Return the cell of a table: the mean, and beneath it the interval, the cases, misses and collapsed runs."""
    if point is None:
        return NO_VALUE, ""
    notes = []
    if point.low is not None:
        notes.append(f"{number(point.low, point.metric)} to {number(point.high, point.metric)}")
    notes.append(counted(point.cases, "case", "cases"))
    if point.missed:
        notes.append(f"missed in {point.missed:.0%}")
    if point.collapsed:
        notes.append(f"{point.collapsed}/{point.runs} collapsed")
    return number(point.mean, point.metric), ", ".join(notes)


def sweep_rows(points: Sequence[SweepPoint], metric: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the table of one metric: for each fraction its label, and `point_texts` of each loss."""
    by_place = {(point.fraction, point.loss): point for point in points if point.metric == metric}
    losses = losses_of(points)
    fractions = sorted({point.fraction for point in points}, reverse=True)
    return [
        (percent_label(fraction), [point_texts(by_place.get((fraction, loss))) for loss in losses])
        for fraction in fractions
    ]


def sweep_page(points: Sequence[SweepPoint], verdicts: Sequence[LevelVerdict], settings: SweepSettings) -> str:
    """Return the page; every name in it is escaped."""
    styles = styles_of(losses_of(points))
    return render_page(
        "sweep.html.j2",
        settings=settings,
        styles=styles,
        panels=[(metric_of(metric).heading, sweep_panel(points, metric, styles)) for metric in METRICS],
        tables=[(metric_of(metric).heading, sweep_rows(points, metric)) for metric in METRICS],
        verdicts=verdicts,
        percent_label=percent_label,
    )
