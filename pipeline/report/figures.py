"""The figures of the verdict: differences with their intervals, ranks, cases in pairs, distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.comparison.bounds import possible
from pipeline.comparison.pairing import Paired
from pipeline.report.svg import WIDTH, Scale, chart, joined, tag, text, x_axis, y_axis
from pipeline.report.wording import MINUS, LossStyle, bare_name, factor, metric_name, number, shortened, signed, unit

Styles = Mapping[str, LossStyle]

EDGES = ("ci_low", "ci_high")
MANY_POINTS = 2400
MANY_PAIRS = 8
MOST_LETTERS = 29
"""Of the names of a pair beside their interval."""

NAME_WIDTH, VALUE_WIDTH = 7.8, 6.6
"""Of a letter, in the widest usual font."""

MOST_RANKS = 6
"""Losses in a plot of ranks; the table of ranks has all."""


def seen_from(
    pairs: Sequence[Mapping[str, Any]], metric: str, recommended: str | None, controls: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the pairs of a metric, turned so that differences are ``recommended - other``.

    With few losses the pairs among the others follow, so that nothing is left out. A control (the same loss twice) is
    shown against its own loss alone, last.
    """
    turned, others, same = [], [], []
    for entry in pairs:
        if entry["metric"] != metric:
            continue
        if {entry["a"], entry["b"]} & set(controls):
            if entry["a"] == controls.get(entry["b"]):
                same.append(dict(entry))
            elif entry["b"] == controls.get(entry["a"]):
                same.append(_flipped(entry))
        elif entry["b"] == recommended:
            turned.append(_flipped(entry))
        elif entry["a"] == recommended:
            turned.append(dict(entry))
        else:
            others.append(dict(entry))
    return turned + (others if len(others) <= 3 else []) + same


def _flipped(entry: Mapping[str, Any]) -> dict[str, Any]:
    turned = {"a": entry["b"], "b": entry["a"], "difference": -entry["difference"]}
    return {**entry, **turned, "ci_low": -entry["ci_high"], "ci_high": -entry["ci_low"]}


def interval_plot(pairs: Sequence[Mapping[str, Any]], metric: str, higher_is_better: bool, styles: Styles) -> Markup:
    """Return differences with their intervals, the margin of equivalence and the noise between trainings.

    `pairs` are as `seen_from` gives them. Margin and noise are drawn behind the intervals alone: names and numbers
    stand between these strips.
    """
    scaled = factor(metric)
    pairs = [
        dict(entry) | dict(zip(EDGES, possible(metric, *(entry[n] for n in EDGES)), strict=True)) for entry in pairs
    ]
    margin = max((entry.get("margin") or 0.0 for entry in pairs), default=0.0) * scaled
    noise = max((entry.get("noise_floor") or 0.0 for entry in pairs), default=0.0)
    floor = noise * scaled if noise else None
    values = [0.0, margin, -margin, floor or 0.0, -(floor or 0.0)]
    values += [scaled * entry[name] for entry in pairs for name in ("ci_low", "ci_high")]
    scale = Scale.around(values, 12, WIDTH - 12)
    row, half = (42, 10) if len(pairs) <= MANY_PAIRS else (32, 6)
    top = 22
    bottom = top + row * len(pairs)
    wide = max(len(_numbers(scaled, entry)) for entry in pairs)
    most = min(MOST_LETTERS, int((WIDTH - 34 - VALUE_WIDTH * wide) / NAME_WIDTH))
    longest = max(len(entry["a"]) + len(entry["b"]) + 3 for entry in pairs)
    of_one = longest > most and len({entry["a"] for entry in pairs}) == 1
    minuend = f"{shortened(pairs[0]['a'], 24)} minus each, " if of_one else "difference of "
    parts = [
        x_axis(scale, bottom - 2, bottom + 2, f"{minuend}{bare_name(metric)}, {unit(metric)}"),
    ]
    left, right = ("second better", "first better") if higher_is_better else ("first better", "second better")
    parts.append(text(12, 12, f"◂ {left}", class_="tick"))
    parts.append(text(WIDTH - 12, 12, f"{right} ▸", anchor="end", class_="tick"))
    for index, entry in enumerate(pairs):
        low, mean, high = (scaled * entry[name] for name in ("ci_low", "difference", "ci_high"))
        y = float(top + row * (index + 1) - half - 2)
        better = entry["better"]
        colour = styles[better].colour if better in styles else "#4a5560"
        parts += [
            tag("line", x1=scale(tick), x2=scale(tick), y1=y - half, y2=y + half, class_="grid")
            for tick in scale.ticks()
        ]
        parts.append(_band(scale, margin, y, half, "margin", f"equivalence margin: ±{margin:g} {unit(metric)}"))
        if floor is not None:
            said = f"two studies of one and the same loss differ by ±{floor:.2f} {unit(metric)} (sd)"
            parts.append(_band(scale, floor, y, half, "noise", said))
        if of_one:
            names = f"{MINUS} {shortened(entry['b'], most - 2)}"
        else:
            room = max(most - 3, 6)
            first = max(room // 2, room - len(entry["b"]))
            first = min(first, len(entry["a"]))
            names = f"{shortened(entry['a'], first)} {MINUS} {shortened(entry['b'], room - first)}"
        said = f"{entry['a']} minus {entry['b']}: {signed(mean)} {unit(metric)} ({signed(low)} to {signed(high)})"
        parts.append(text(12, y - half - 5, names, class_="name"))
        parts.append(text(WIDTH - 12, y - half - 5, _numbers(scaled, entry), anchor="end", class_="value"))
        parts.append(
            tag(
                "g",
                tag("title", said),
                tag("line", x1=scale(0), x2=scale(0), y1=y - half, y2=y + half, class_="zero"),
                tag("line", x1=scale(low), x2=scale(high), y1=y, y2=y, stroke=colour, class_="interval"),
                tag("circle", cx=scale(mean), cy=y, r=4.5, fill=colour),
            )
        )
    return chart(WIDTH, bottom + 36, f"Differences of {metric_name(metric)} with 95 % intervals", *parts)


def _numbers(scaled: float, entry: Mapping[str, Any]) -> str:
    low, mean, high = (signed(scaled * entry[name]) for name in ("ci_low", "difference", "ci_high"))
    return f"{mean}  [{low}, {high}]"


def _band(scale: Scale, half_width: float, y: float, half: float, kind: str, said: str) -> Markup:
    x = scale(-half_width)
    return tag(
        "rect",
        tag("title", said),
        x=x,
        width=scale(half_width) - x,
        y=y - half,
        height=2.0 * half,
        class_=f"band {kind}",
    )


def rank_plot(ranking: Mapping[str, Any], styles: Styles) -> Markup:
    """Return how often each loss takes each rank in redrawn studies; the darkest part is the first rank.

    Of many losses the best by their means are shown.
    """
    losses = ranking["losses"]
    frequency = np.asarray(ranking["rank_frequency"], dtype=float)
    order = np.argsort(ranking["mean_then_rank"], kind="stable")[:MOST_RANKS]
    scale = Scale(0, 1, 12, WIDTH - 12)
    parts, row = [], 38
    for place, index in enumerate(order):
        name, y, start = losses[index], place * row + 16, 0.0
        parts.append(text(12, y - 3, shortened(name, 30), class_="name"))
        first = frequency[index, 0]
        parts.append(text(WIDTH - 12, y - 3, f"first in {100 * first:.0f} % of redraws", anchor="end", class_="value"))
        for rank, share in enumerate(frequency[index]):
            if share > 0:
                opacity = 1 - 0.86 * rank / max(len(losses) - 1, 1)
                width = scale(start + share) - scale(start)
                parts.append(
                    tag(
                        "rect",
                        tag("title", f"{name}: rank {rank + 1} in {share:.1%} of redraws"),
                        x=scale(start),
                        y=float(y + 2),
                        width=max(width - 1, 0.5),
                        height=13.0,
                        fill=styles[name].colour,
                        fill_opacity=opacity,
                    )
                )
                start += share
    return chart(WIDTH, row * len(order) + 2, "How often each loss takes each rank", *parts)


def paired_plot(paired: Paired, first: str, second: str, named: Sequence[str], styles: Styles) -> Markup:
    """Return each case as a point, `second` to the right and `first` upwards, with the deciding cases numbered.

    Of very many cases some are drawn, evenly by the difference between both, and the plot says how many.
    """
    x_values = paired.values[paired.losses.index(second)]
    y_values = paired.values[paired.losses.index(first)]
    everything = [*map(float, x_values), *map(float, y_values)]
    bottom, left = 300.0, 46.0
    across = Scale.around(everything, left, WIDTH - 14)
    up = Scale(across.low, across.high, bottom, 14)
    parts = [
        x_axis(across, 14, bottom, f"{shortened(second, 24)}: {metric_name(paired.metric)}"),
        y_axis(up, left, WIDTH - 14),
        tag("line", x1=left, y1=bottom, x2=float(WIDTH - 14), y2=14.0, class_="zero"),
    ]
    drawn = _evenly(y_values - x_values, MANY_POINTS)
    if len(drawn) < len(paired.cases):
        said = f"{len(drawn):,} of {len(paired.cases):,} cases, evenly by the difference"
        parts.append(text(WIDTH - 14, 12, said, anchor="end", class_="tick"))
    for index in drawn:
        x, y, case = float(x_values[index]), float(y_values[index]), paired.cases[index]
        winner = first if (y > x) == paired.higher_is_better else second
        colour = styles[winner].colour if x != y else "#4a5560"
        said = f"{case}: {first} {number(y, paired.metric)}, {second} {number(x, paired.metric)}"
        parts.append(tag("circle", tag("title", said), cx=across(x), cy=up(y), r=3.2, fill=colour, fill_opacity=0.55))
    for rank, case in enumerate(named, start=1):
        at = paired.cases.index(case)
        x, y = across(float(x_values[at])), up(float(y_values[at]))
        parts.append(tag("circle", cx=x, cy=y, r=5.2, class_="ring"))
        parts.append(text(x + 7, y - 5, str(rank), class_="mark"))
    parts.append(
        tag(
            "text",
            shortened(first, 24),
            transform=f"translate(12 {(bottom + 14) / 2:g}) rotate(-90)",
            text_anchor="middle",
            class_="axis",
        )
    )
    label = f"{metric_name(paired.metric)} of each case: {first} against {second}"
    return chart(WIDTH, bottom + 36, label, *parts)


def _evenly(values: NDArray[np.float64], most: int) -> list[int]:
    """Return the indices of at most `most` values, evenly by their order, with the least and the largest."""
    if values.size <= most:
        return list(range(values.size))
    order = np.argsort(values, kind="stable")
    return sorted(order[np.linspace(0, values.size - 1, most).round().astype(int)].tolist())


def distribution_plot(paired: Paired, styles: Styles) -> Markup:
    """Return a box with the single cases for each loss; with very many points, some of those outside the boxes."""
    row, top = 46, 4
    bottom = float(top + row * len(paired.losses))
    scale = Scale.around([*map(float, paired.values.ravel())], 12, WIDTH - 12)
    parts = [x_axis(scale, top, bottom, metric_name(paired.metric))]
    thin = paired.values.size > MANY_POINTS
    for index, loss in enumerate(paired.losses):
        values = paired.values[index]
        quarter, median, three = np.quantile(values, [0.25, 0.5, 0.75])
        y, colour = top + row * index + 30.0, styles[loss].colour
        parts.append(text(12, y - 16, shortened(loss, 30), class_="name"))
        parts.append(
            text(WIDTH - 12, y - 16, f"median {number(float(median), paired.metric)}", anchor="end", class_="value")
        )
        offsets = ((np.arange(values.size) * 0.618034) % 1.0 - 0.5) * 17
        shown = np.flatnonzero((values < quarter) | (values > three)) if thin else np.arange(values.size)
        for at in shown[_evenly(values[shown], MANY_POINTS // len(paired.losses))]:
            value, offset, case = values[at], offsets[at], paired.cases[at]
            said = f"{case}: {number(float(value), paired.metric)}"
            parts.append(
                tag(
                    "circle",
                    tag("title", said),
                    cx=scale(float(value)),
                    cy=y + float(offset),
                    r=2.3,
                    fill=colour,
                    fill_opacity=0.4,
                )
            )
        x = scale(float(quarter))
        parts.append(tag("rect", x=x, y=y - 9, width=scale(float(three)) - x, height=18.0, stroke=colour, class_="box"))
        parts.append(
            tag(
                "line",
                x1=scale(float(median)),
                x2=scale(float(median)),
                y1=y - 9,
                y2=y + 9,
                stroke=colour,
                class_="median",
            )
        )
    return chart(WIDTH, bottom + 36, f"{metric_name(paired.metric)} of all cases by loss", joined(parts))
