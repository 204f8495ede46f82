"""The figure of a sweep, alone as SVG and in a self-contained page."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import pipeline
from pipeline.comparison.phrases import counted
from pipeline.report.figures import Styles
from pipeline.report.svg import WIDTH, Scale, chart, joined, tag, text, x_axis, y_axis
from pipeline.report.sweep import METRICS, SweepPoint
from pipeline.report.wording import LossStyle, metric_name, number

LEFT, TOP, BOTTOM = 46.0, 10.0, 232.0
STYLE = """
.chart text, .whole text {
  font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif; fill: #1b222b;
}
.whole .tick, .chart .tick { fill: #56616d; font-size: 10.5px; } .whole .axis, .chart .axis { fill: #56616d; }
.whole .title { font-size: 13px; font-weight: 600; }
.grid { stroke: #e9edf0; stroke-width: 1; }
.sweep-line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.sweep-band { stroke: none; fill-opacity: .13; }
"""


def percent(fraction: float) -> str:
    """Return a fraction as people read it, e.g. ``0.03 %``."""
    return f"{100 * fraction:g} %"


def styles_of(points: Sequence[SweepPoint]) -> dict[str, LossStyle]:
    """Return a style for each loss, in order."""
    return {name: LossStyle(index) for index, name in enumerate(dict.fromkeys(point.loss for point in points))}


def sweep_panel(points: Sequence[SweepPoint], metric: str, styles: Styles) -> Markup:
    """Return one metric against the foreground fraction in percent, on a logarithmic axis, with bands."""
    return chart(
        WIDTH, BOTTOM + 36, f"{metric_name(metric)} against the foreground fraction", _panel(points, metric, styles)
    )


def _panel(points: Sequence[SweepPoint], metric: str, styles: Styles) -> Markup:
    shown = [point for point in points if point.metric == metric]
    across = Scale.around([100 * point.fraction for point in shown], LEFT + 8, WIDTH - 16, logarithmic=True)
    bounds = [bound for point in shown for bound in (point.low, point.high) if bound is not None]
    up = Scale(0.0, 1.0, BOTTOM, TOP) if metric == "dice" else Scale(0.0, 1.05 * max(bounds, default=1.0), BOTTOM, TOP)
    parts = [x_axis(across, TOP, BOTTOM, "foreground, % of all voxels"), y_axis(up, LEFT, WIDTH - 12)]
    for index, loss in enumerate(styles):
        own = [point for point in shown if point.loss == loss]
        parts.append(_band(own, across, up, styles[loss].color))
        parts.append(_line(own, across, up, styles[loss]))
        parts += [_mark(point, across, up, styles[loss].color) for point in own if point.mean is not None]
        parts += [_cross(point, across, index, len(styles), styles[loss].color) for point in own if point.collapsed]
    return joined(parts)


def _band(own: Sequence[SweepPoint], across: Scale, up: Scale, color: str) -> Markup:
    known = [(across(100 * p.fraction), up(p.low), up(p.high)) for p in own if p.low is not None and p.high is not None]
    if len(known) < 2:
        return Markup("")
    outline = [(x, low) for x, low, _ in known] + [(x, high) for x, _, high in reversed(known)]
    return tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in outline), fill=color, class_="sweep-band")


def _line(own: Sequence[SweepPoint], across: Scale, up: Scale, style: LossStyle) -> Markup:
    """Return the segments between neighbours, dashed where they lead over a level without a mean."""
    known = [(index, point) for index, point in enumerate(own) if point.mean is not None]
    parts = []
    for (first, a), (second, b) in pairwise(known):
        ends = [(across(100 * p.fraction), up(p.mean or 0.0)) for p in (a, b)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
        dash = "3 4" if second - first > 1 else style.dash
        parts.append(tag("polyline", points=path, stroke=style.color, stroke_dasharray=dash, class_="sweep-line"))
    return joined(parts)


def _mark(point: SweepPoint, across: Scale, up: Scale, color: str) -> Markup:
    assert point.mean is not None
    x, y = across(100 * point.fraction), up(point.mean)
    return tag(
        "circle",
        tag("title", said(point)),
        cx=x,
        cy=y,
        r=3.6,
        stroke=color,
        fill="#fff" if point.collapsed else color,
    )


def _cross(point: SweepPoint, across: Scale, index: int, losses: int, color: str) -> Markup:
    x, y, r = across(100 * point.fraction) + 9 * (index - (losses - 1) / 2), BOTTOM - 7.0, 3.5
    path = f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}L{x + r:.1f} {y - r:.1f}"
    return tag("path", tag("title", said(point)), d=path, stroke=color, stroke_width=2.0, fill="none")


def said(point: SweepPoint) -> str:
    """Return a point in words."""
    runs = f"{point.collapsed} of {point.runs} runs collapsed" if point.collapsed else f"{point.runs} runs"
    mean = f"{metric_name(point.metric)} {number(point.mean, point.metric)}" if point.mean is not None else "no result"
    return f"{point.loss} at {percent(point.fraction)}: {mean}, {runs}"


def sweep_figure(points: Sequence[SweepPoint]) -> str:
    """Return both metrics side by side with a legend, as an SVG file of its own."""
    styles = styles_of(points)
    height = BOTTOM + 92
    parts: list[Markup] = [tag("style", Markup(STYLE)), tag("rect", width=2.0 * WIDTH, height=height, fill="#fff")]
    for place, metric in enumerate(METRICS):
        inside = joined([text(LEFT, -8, metric_name(metric), class_="title"), _panel(points, metric, styles)])
        parts.append(tag("g", inside, transform=f"translate({place * WIDTH} 24)"))
    x = LEFT
    for name, style in styles.items():
        parts.append(tag("rect", x=x, y=height - 24, width=12.0, height=12.0, fill=style.color))
        parts.append(text(x + 17, height - 14, name))
        x += 36 + 6.6 * len(name)
    whole = tag(
        "svg",
        *parts,
        class_="whole",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {2 * WIDTH} {height:g}",
        width=2.0 * WIDTH,
        height=height,
        role="img",
        aria_label="Dice and 95 % Hausdorff distance against the foreground fraction",
    )
    return str(whole) + "\n"


def cells(point: SweepPoint | None) -> tuple[str, str]:
    """Return what a table shows of a point: its mean, and beneath it its interval and what happened."""
    if point is None:
        return "–", ""
    notes = []
    if point.low is not None:
        notes.append(f"{number(point.low, point.metric)} to {number(point.high, point.metric)}")
    notes.append(counted(point.cases, "case", "cases"))
    if point.missed:
        notes.append(f"missed in {point.missed:.0%}")
    if point.collapsed:
        notes.append(f"{point.collapsed}/{point.runs} collapsed")
    return number(point.mean, point.metric), ", ".join(notes)


def rows_of(points: Sequence[SweepPoint], metric: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return a table of one metric: a row for each fraction, a column for each loss."""
    by_place = {(point.fraction, point.loss): point for point in points if point.metric == metric}
    losses = list(dict.fromkeys(point.loss for point in points))
    fractions = sorted({point.fraction for point in points}, reverse=True)
    return [(percent(f), [cells(by_place.get((f, loss))) for loss in losses]) for f in fractions]


def sweep_page(points: Sequence[SweepPoint], verdicts: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the page; every name in it is escaped."""
    styles = styles_of(points)
    asked = settings["request"]
    budget = re.sub(r"(?<=\d)(?=[a-z])", " ", asked["budget"])
    voxels = "×".join(map(str, asked["shape"]))
    sentence = (
        f"The same losses on phantoms with ever less foreground: {asked['cases']} of {voxels} voxels at each level, "
        f"{asked['folds']} folds, {budget} for each training; every case is predicted by networks that never "
        "saw it. One class; the patch is the whole volume, so that its share of foreground is that of the axis."
    )
    environment = Environment(loader=PackageLoader("pipeline.report"), autoescape=True, undefined=StrictUndefined)
    css = (files("pipeline.report") / "templates" / "report.css").read_text(encoding="utf-8")
    return environment.get_template("sweep.html.j2").render(
        css=Markup(css),
        style=Markup(STYLE),
        sentence=sentence,
        losses=list(styles),
        styles=styles,
        panels=[(metric_name(metric), sweep_panel(points, metric, styles)) for metric in METRICS],
        tables=[(metric_name(metric), rows_of(points, metric)) for metric in METRICS],
        verdicts=[{**item, "label": percent(item["fraction"])} for item in verdicts],
        command=settings.get("command") or "segloss sweep",
        version=pipeline.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
