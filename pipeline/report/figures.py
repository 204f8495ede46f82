"""The figures of the verdict: differences with their intervals, ranks, cases in pairs, and distributions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.comparison.pairing import Paired
from pipeline.records.metrics import Metric, metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Ranking, Verdict
from pipeline.report.formatting import MINUS, number, shortened, signed
from pipeline.report.styles import NEUTRAL, Styles
from pipeline.report.svg import WIDTH, Scale, chart, element, fragment, text, x_axis, y_axis

MAXIMUM_POINTS = 2400
"""Points of one plot; of more cases, some are drawn."""

ROOMY_PAIRS = 8
"""Most pairs whose rows are drawn with wide gaps."""

NAME_LETTERS = 29
"""Longest text for the names of a pair, in letters."""

NAME_WIDTH, VALUE_WIDTH = 7.8, 6.6
"""Width of a letter of names and of values, in the widest common font."""

MAXIMUM_RANKED = 6
"""Losses in a plot of ranks; the table of ranks has all."""

MAXIMUM_OTHER_PAIRS = 3
"""Pairs without the recommended loss that are still drawn."""


def seen_from_recommended(verdict: Verdict, metric: str) -> list[PairResult]:
    """Return the pairs of a metric with differences as ``recommended - other``.

    With few losses, the pairs among the others follow. A control (the same loss a second time) is compared with its own
    loss only, last.
    """
    recommended, controls = verdict.recommended, verdict.controls
    pairs = verdict.pairs_of(metric)
    without_controls = [pair for pair in pairs if not pair.names & set(controls)]
    first = [pair.seen_from(recommended) for pair in without_controls if recommended and recommended in pair.names]
    others = [pair for pair in without_controls if recommended not in pair.names]
    same = [
        pair.seen_from(loss) for pair in pairs for control, loss in controls.items() if pair.names == {control, loss}
    ]
    return first + (others if len(others) <= MAXIMUM_OTHER_PAIRS else []) + same


def interval_plot(pairs: Sequence[PairResult], metric_name: str, styles: Styles) -> Markup:
    """Return differences with their intervals, the margin of equivalence and the noise between trainings.

    `pairs` are those of `seen_from_recommended`. Margin and noise are drawn behind the intervals only, so that names
    and numbers stand on white.
    """
    metric = metric_of(metric_name)
    pairs = [_within_bounds(pair) for pair in pairs]
    margin = metric.factor * max((pair.margin for pair in pairs if pair.margin > 0), default=0.0)
    noise = metric.factor * max((pair.noise_floor or 0.0 for pair in pairs), default=0.0)
    values = [0.0, margin, -margin, noise, -noise]
    values += [metric.factor * end for pair in pairs for end in (pair.ci_low, pair.ci_high)]
    scale = Scale.around(values, 12, WIDTH - 12)
    row_height, half = (42, 10) if len(pairs) <= ROOMY_PAIRS else (32, 6)
    top = 22
    bottom = top + row_height * len(pairs)
    names = _PairNames.of(pairs, metric)
    left, right = "second better", "first better"
    if not metric.higher_is_better:
        left, right = right, left
    parts = [
        x_axis(scale, bottom - 2, bottom + 2, f"{names.minuend}{metric.label}, {metric.displayed_unit}"),
        text(12, 12, f"◂ {left}", class_="tick"),
        text(WIDTH - 12, 12, f"{right} ▸", anchor="end", class_="tick"),
    ]
    for index, pair in enumerate(pairs):
        y = float(top + row_height * (index + 1) - half - 2)
        parts += [
            element("line", x1=scale(tick), x2=scale(tick), y1=y - half, y2=y + half, class_="grid")
            for tick in scale.ticks()
        ]
        unit = metric.displayed_unit
        parts.append(_band(scale, margin, y, half, "margin", f"equivalence margin: ±{margin:g} {unit}"))
        if noise:
            title = f"two studies of the same loss differ by ±{noise:.2f} {unit} (standard deviation)"
            parts.append(_band(scale, noise, y, half, "noise", title))
        parts.append(text(12, y - half - 5, names.label(pair), class_="name"))
        parts.append(text(WIDTH - 12, y - half - 5, _numbers(pair, metric), anchor="end", class_="value"))
        parts.append(_interval(pair, metric, scale, y, half, styles))
    return chart(WIDTH, bottom + 36, f"Differences of {metric.heading} with 95 % intervals", *parts)


@dataclass(frozen=True, slots=True)
class _PairNames:
    """Names of pairs in a plot: the second loss alone if all pairs share the first and both names would be too long."""

    letters: int
    common_first: bool
    minuend: str

    @classmethod
    def of(cls, pairs: Sequence[PairResult], metric: Metric) -> "_PairNames":
        widest = max(len(_numbers(pair, metric)) for pair in pairs)
        letters = min(NAME_LETTERS, int((WIDTH - 34 - VALUE_WIDTH * widest) / NAME_WIDTH))
        longest = max(len(pair.a) + len(pair.b) + 3 for pair in pairs)
        common = longest > letters and len({pair.a for pair in pairs}) == 1
        minuend = f"{shortened(pairs[0].a, 24)} minus each, " if common else "difference of "
        return cls(letters, common, minuend)

    def label(self, pair: PairResult) -> str:
        """Return the names of a pair, shortened to the room there is."""
        if self.common_first:
            return f"{MINUS} {shortened(pair.b, self.letters - 2)}"
        room = max(self.letters - 3, 6)
        first = min(max(room // 2, room - len(pair.b)), len(pair.a))
        return f"{shortened(pair.a, first)} {MINUS} {shortened(pair.b, room - first)}"


def _within_bounds(pair: PairResult) -> PairResult:
    """Return a pair whose interval ends at the largest difference that its metric allows."""
    low, high = metric_of(pair.metric).possible_interval(pair.ci_low, pair.ci_high)
    return pair.model_copy(update={"ci_low": low, "ci_high": high})


def _displayed(pair: PairResult, metric: Metric) -> tuple[float, float, float]:
    """Return lower end, mean and upper end in the displayed unit."""
    return metric.factor * pair.ci_low, metric.factor * pair.difference, metric.factor * pair.ci_high


def _numbers(pair: PairResult, metric: Metric) -> str:
    low, mean, high = map(signed, _displayed(pair, metric))
    return f"{mean}  [{low}, {high}]"


def _interval(pair: PairResult, metric: Metric, scale: Scale, y: float, half: float, styles: Styles) -> Markup:
    low, mean, high = _displayed(pair, metric)
    color = styles[pair.better].color if pair.better is not None else NEUTRAL
    difference = f"{signed(mean)} {metric.displayed_unit} ({signed(low)} to {signed(high)})"
    return element(
        "g",
        element("title", f"{pair.a} minus {pair.b}: {difference}"),
        element("line", x1=scale(0), x2=scale(0), y1=y - half, y2=y + half, class_="zero"),
        element("line", x1=scale(low), x2=scale(high), y1=y, y2=y, stroke=color, class_="interval"),
        element("circle", cx=scale(mean), cy=y, r=4.5, fill=color),
    )


def _band(scale: Scale, half_width: float, y: float, half: float, kind: str, title: str) -> Markup:
    """Return a band from ``-half_width`` to ``half_width``."""
    x = scale(-half_width)
    return element(
        "rect",
        element("title", title),
        x=x,
        width=scale(half_width) - x,
        y=y - half,
        height=2.0 * half,
        class_=f"band {kind}",
    )


def rank_plot(ranking: Ranking, styles: Styles) -> Markup:
    """Return how often each loss has each rank in simulated repetitions of the study; rank 1 is the darkest.

    If there are many losses, those with the best means are shown.
    """
    losses = ranking.losses
    frequency = np.asarray(ranking.rank_frequency, dtype=float)
    order = np.argsort(ranking.mean_then_rank, kind="stable")[:MAXIMUM_RANKED]
    scale = Scale(0, 1, 12, WIDTH - 12)
    parts, row_height = [], 38
    for place, index in enumerate(order):
        name, y, start = losses[index], place * row_height + 16, 0.0
        first = f"first in {100 * frequency[index, 0]:.0f} % of redraws"
        parts.append(text(12, y - 3, shortened(name, 30), class_="name"))
        parts.append(text(WIDTH - 12, y - 3, first, anchor="end", class_="value"))
        for rank, share in enumerate(frequency[index]):
            if share > 0:
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
                        fill_opacity=1 - 0.86 * rank / max(len(losses) - 1, 1),
                    )
                )
                start += share
    return chart(WIDTH, row_height * len(order) + 2, "How often each loss has each rank", *parts)


def paired_plot(paired: Paired, first: str, second: str, numbered: Sequence[str], styles: Styles) -> Markup:
    """Return each case as a point: the value of `second` on the x axis and of `first` on the y axis.

    The cases in `numbered` have their number beside them. Of very many cases some are drawn, evenly spaced by the
    difference between the losses, and the plot states how many.
    """
    x_values = paired.values[paired.losses.index(second)]
    y_values = paired.values[paired.losses.index(first)]
    bottom, left = 300.0, 46.0
    across = Scale.around([*map(float, x_values), *map(float, y_values)], left, WIDTH - 14)
    up = Scale(across.low, across.high, bottom, 14)
    heading = metric_of(paired.metric).heading
    parts = [
        x_axis(across, 14, bottom, f"{shortened(second, 24)}: {heading}"),
        y_axis(up, left, WIDTH - 14),
        element("line", x1=left, y1=bottom, x2=float(WIDTH - 14), y2=14.0, class_="zero"),
    ]
    drawn = _evenly(y_values - x_values, MAXIMUM_POINTS)
    if len(drawn) < len(paired.cases):
        note = f"{len(drawn):,} of {len(paired.cases):,} cases, evenly by the difference"
        parts.append(text(WIDTH - 14, 12, note, anchor="end", class_="tick"))
    for index in drawn:
        x, y, case = float(x_values[index]), float(y_values[index]), paired.cases[index]
        better = first if (y > x) == paired.higher_is_better else second
        color = styles[better].color if x != y else NEUTRAL
        title = element("title", f"{case}: {first} {number(y, paired.metric)}, {second} {number(x, paired.metric)}")
        parts.append(element("circle", title, cx=across(x), cy=up(y), r=3.2, fill=color, fill_opacity=0.55))
    for rank, case in enumerate(numbered, start=1):
        at = paired.cases.index(case)
        x, y = across(float(x_values[at])), up(float(y_values[at]))
        parts.append(element("circle", cx=x, cy=y, r=5.2, class_="ring"))
        parts.append(text(x + 7, y - 5, str(rank), class_="mark"))
    turned = f"translate(12 {(bottom + 14) / 2:g}) rotate(-90)"
    parts.append(element("text", shortened(first, 24), transform=turned, text_anchor="middle", class_="axis"))
    return chart(WIDTH, bottom + 36, f"{heading} of each case: {first} and {second}", *parts)


def _evenly(values: NDArray[np.float64], most: int) -> list[int]:
    """Return the indices of at most `most` values, evenly by their order, with the least and the largest."""
    if values.size <= most:
        return list(range(values.size))
    order = np.argsort(values, kind="stable")
    return sorted(order[np.linspace(0, values.size - 1, most).round().astype(int)].tolist())


def distribution_plot(paired: Paired, styles: Styles) -> Markup:
    """Return a box and the single cases for each loss; of very many cases, some of those outside the boxes."""
    row_height, top = 46, 4
    bottom = float(top + row_height * len(paired.losses))
    scale = Scale.around([*map(float, paired.values.ravel())], 12, WIDTH - 12)
    heading = metric_of(paired.metric).heading
    parts = [x_axis(scale, top, bottom, heading)]
    for index, loss in enumerate(paired.losses):
        y, median = top + row_height * index + 30.0, float(np.median(paired.values[index]))
        label = f"median {number(median, paired.metric)}"
        parts.append(text(12, y - 16, shortened(loss, 30), class_="name"))
        parts.append(text(WIDTH - 12, y - 16, label, anchor="end", class_="value"))
        parts += _cases_with_box(paired, index, scale, y, styles[loss].color)
    return chart(WIDTH, bottom + 36, f"{heading} of all cases by loss", fragment(parts))


def _cases_with_box(paired: Paired, index: int, scale: Scale, y: float, color: str) -> list[Markup]:
    """Return the points of one loss around `y`, and the box of quartiles and median over them."""
    values = paired.values[index]
    quarter, median, three_quarters = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    # Multiples of the golden ratio spread neighbors far apart, the same way in every report.
    offsets = ((np.arange(values.size) * 0.618034) % 1.0 - 0.5) * 17
    thin = paired.values.size > MAXIMUM_POINTS
    shown = np.flatnonzero((values < quarter) | (values > three_quarters)) if thin else np.arange(values.size)
    parts = []
    for at in shown[_evenly(values[shown], MAXIMUM_POINTS // len(paired.losses))]:
        value = float(values[at])
        title = element("title", f"{paired.cases[at]}: {number(value, paired.metric)}")
        cy = y + float(offsets[at])
        parts.append(element("circle", title, cx=scale(value), cy=cy, r=2.3, fill=color, fill_opacity=0.4))
    x, right, middle = scale(quarter), scale(three_quarters), scale(median)
    parts.append(element("rect", x=x, y=y - 9, width=right - x, height=18.0, stroke=color, class_="box"))
    parts.append(element("line", x1=middle, x2=middle, y1=y - 9, y2=y + 9, stroke=color, class_="median"))
    return parts
