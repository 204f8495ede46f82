"""The figures of the verdict: differences with their intervals, ranks, cases in pairs, distributions."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.comparison.bounds import possible
from pipeline.comparison.pairing import Paired
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Ranking, Verdict
from pipeline.report.formatting import MINUS, number, shortened, signed
from pipeline.report.styles import NEUTRAL, Styles
from pipeline.report.svg import WIDTH, Scale, chart, element, fragment, text, x_axis, y_axis

MANY_POINTS = 2400
MANY_PAIRS = 8
MOST_LETTERS = 29
"""Of the names of a pair beside their interval."""

NAME_WIDTH, VALUE_WIDTH = 7.8, 6.6
"""Of a letter, in the widest usual font."""

MOST_RANKS = 6
"""Losses in a plot of ranks; the table of ranks has all."""


def seen_from_recommended(verdict: Verdict, metric: str) -> list[PairResult]:
    """Return the pairs of a metric, turned so that differences are ``recommended - other``.

    With few losses the pairs among the others follow, so that nothing is left out. A control (the same loss twice) is
    shown against its own loss alone, last.
    """
    recommended, controls = verdict.recommended, verdict.controls
    pairs = verdict.pairs_of(metric)
    own = [pair for pair in pairs if not pair.names & set(controls)]
    turned = [pair.seen_from(recommended) for pair in own if recommended is not None and recommended in pair.names]
    others = [pair for pair in own if recommended not in pair.names]
    same = [
        pair.seen_from(loss) for pair in pairs for control, loss in controls.items() if pair.names == {control, loss}
    ]
    return turned + (others if len(others) <= 3 else []) + same


def interval_plot(pairs: Sequence[PairResult], metric: str, styles: Styles) -> Markup:
    """Return differences with their intervals, the margin of equivalence and the noise between trainings.

    `pairs` are as `seen_from_recommended` gives them. Margin and noise are drawn behind the intervals alone: names and
    numbers stand between these strips.
    """
    scaled = metric_of(metric).factor
    pairs = [_within_bounds(pair) for pair in pairs]
    margin = max((pair.margin for pair in pairs if pair.margin > 0), default=0.0) * scaled
    noise = max((pair.noise_floor or 0.0 for pair in pairs), default=0.0)
    floor = noise * scaled if noise else None
    values = [0.0, margin, -margin, floor or 0.0, -(floor or 0.0)]
    values += [scaled * end for pair in pairs for end in (pair.ci_low, pair.ci_high)]
    scale = Scale.around(values, 12, WIDTH - 12)
    row, half = (42, 10) if len(pairs) <= MANY_PAIRS else (32, 6)
    top = 22
    bottom = top + row * len(pairs)
    wide = max(len(_numbers(scaled, pair)) for pair in pairs)
    most = min(MOST_LETTERS, int((WIDTH - 34 - VALUE_WIDTH * wide) / NAME_WIDTH))
    longest = max(len(pair.a) + len(pair.b) + 3 for pair in pairs)
    of_one = longest > most and len({pair.a for pair in pairs}) == 1
    minuend = f"{shortened(pairs[0].a, 24)} minus each, " if of_one else "difference of "
    parts = [
        x_axis(
            scale, bottom - 2, bottom + 2, f"{minuend}{metric_of(metric).label}, {metric_of(metric).displayed_unit}"
        ),
    ]
    left, right = (
        ("second better", "first better") if metric_of(metric).higher_is_better else ("first better", "second better")
    )
    parts.append(text(12, 12, f"◂ {left}", class_="tick"))
    parts.append(text(WIDTH - 12, 12, f"{right} ▸", anchor="end", class_="tick"))
    for index, pair in enumerate(pairs):
        low, mean, high = (scaled * value for value in (pair.ci_low, pair.difference, pair.ci_high))
        y = float(top + row * (index + 1) - half - 2)
        color = styles[pair.better].color if pair.better is not None else NEUTRAL
        parts += [
            element("line", x1=scale(tick), x2=scale(tick), y1=y - half, y2=y + half, class_="grid")
            for tick in scale.ticks()
        ]
        parts.append(
            _band(
                scale, margin, y, half, "margin", f"equivalence margin: ±{margin:g} {metric_of(metric).displayed_unit}"
            )
        )
        if floor is not None:
            said = (
                f"two studies of one and the same loss differ by ±{floor:.2f} {metric_of(metric).displayed_unit} (sd)"
            )
            parts.append(_band(scale, floor, y, half, "noise", said))
        if of_one:
            names = f"{MINUS} {shortened(pair.b, most - 2)}"
        else:
            room = max(most - 3, 6)
            first = max(room // 2, room - len(pair.b))
            first = min(first, len(pair.a))
            names = f"{shortened(pair.a, first)} {MINUS} {shortened(pair.b, room - first)}"
        title = f"{pair.a} minus {pair.b}: {signed(mean)} {metric_of(metric).displayed_unit} ({signed(low)} to {signed(high)})"
        parts.append(text(12, y - half - 5, names, class_="name"))
        parts.append(text(WIDTH - 12, y - half - 5, _numbers(scaled, pair), anchor="end", class_="value"))
        parts.append(
            element(
                "g",
                element("title", title),
                element("line", x1=scale(0), x2=scale(0), y1=y - half, y2=y + half, class_="zero"),
                element("line", x1=scale(low), x2=scale(high), y1=y, y2=y, stroke=color, class_="interval"),
                element("circle", cx=scale(mean), cy=y, r=4.5, fill=color),
            )
        )
    return chart(WIDTH, bottom + 36, f"Differences of {metric_of(metric).heading} with 95 % intervals", *parts)


def _within_bounds(pair: PairResult) -> PairResult:
    """Return a pair whose interval ends at the largest difference that its metric allows."""
    low, high = possible(pair.metric, pair.ci_low, pair.ci_high)
    return pair.model_copy(update={"ci_low": low, "ci_high": high})


def _numbers(scaled: float, pair: PairResult) -> str:
    low, mean, high = (signed(scaled * value) for value in (pair.ci_low, pair.difference, pair.ci_high))
    return f"{mean}  [{low}, {high}]"


def _band(scale: Scale, half_width: float, y: float, half: float, kind: str, said: str) -> Markup:
    x = scale(-half_width)
    return element(
        "rect",
        element("title", said),
        x=x,
        width=scale(half_width) - x,
        y=y - half,
        height=2.0 * half,
        class_=f"band {kind}",
    )


def rank_plot(ranking: Ranking, styles: Styles) -> Markup:
    """Return how often each loss takes each rank in redrawn studies; the darkest part is the first rank.

    Of many losses the best by their means are shown.
    """
    losses = ranking.losses
    frequency = np.asarray(ranking.rank_frequency, dtype=float)
    order = np.argsort(ranking.mean_then_rank, kind="stable")[:MOST_RANKS]
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
                    element(
                        "rect",
                        element("title", f"{name}: rank {rank + 1} in {share:.1%} of redraws"),
                        x=scale(start),
                        y=float(y + 2),
                        width=max(width - 1, 0.5),
                        height=13.0,
                        fill=styles[name].color,
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
        x_axis(across, 14, bottom, f"{shortened(second, 24)}: {metric_of(paired.metric).heading}"),
        y_axis(up, left, WIDTH - 14),
        element("line", x1=left, y1=bottom, x2=float(WIDTH - 14), y2=14.0, class_="zero"),
    ]
    drawn = _evenly(y_values - x_values, MANY_POINTS)
    if len(drawn) < len(paired.cases):
        said = f"{len(drawn):,} of {len(paired.cases):,} cases, evenly by the difference"
        parts.append(text(WIDTH - 14, 12, said, anchor="end", class_="tick"))
    for index in drawn:
        x, y, case = float(x_values[index]), float(y_values[index]), paired.cases[index]
        winner = first if (y > x) == paired.higher_is_better else second
        color = styles[winner].color if x != y else NEUTRAL
        said = f"{case}: {first} {number(y, paired.metric)}, {second} {number(x, paired.metric)}"
        parts.append(
            element("circle", element("title", said), cx=across(x), cy=up(y), r=3.2, fill=color, fill_opacity=0.55)
        )
    for rank, case in enumerate(named, start=1):
        at = paired.cases.index(case)
        x, y = across(float(x_values[at])), up(float(y_values[at]))
        parts.append(element("circle", cx=x, cy=y, r=5.2, class_="ring"))
        parts.append(text(x + 7, y - 5, str(rank), class_="mark"))
    parts.append(
        element(
            "text",
            shortened(first, 24),
            transform=f"translate(12 {(bottom + 14) / 2:g}) rotate(-90)",
            text_anchor="middle",
            class_="axis",
        )
    )
    label = f"{metric_of(paired.metric).heading} of each case: {first} against {second}"
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
    parts = [x_axis(scale, top, bottom, metric_of(paired.metric).heading)]
    thin = paired.values.size > MANY_POINTS
    for index, loss in enumerate(paired.losses):
        values = paired.values[index]
        quarter, median, three = np.quantile(values, [0.25, 0.5, 0.75])
        y, color = top + row * index + 30.0, styles[loss].color
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
                element(
                    "circle",
                    element("title", said),
                    cx=scale(float(value)),
                    cy=y + float(offset),
                    r=2.3,
                    fill=color,
                    fill_opacity=0.4,
                )
            )
        x = scale(float(quarter))
        parts.append(
            element("rect", x=x, y=y - 9, width=scale(float(three)) - x, height=18.0, stroke=color, class_="box")
        )
        parts.append(
            element(
                "line",
                x1=scale(float(median)),
                x2=scale(float(median)),
                y1=y - 9,
                y2=y + 9,
                stroke=color,
                class_="median",
            )
        )
    return chart(WIDTH, bottom + 36, f"{metric_of(paired.metric).heading} of all cases by loss", fragment(parts))
