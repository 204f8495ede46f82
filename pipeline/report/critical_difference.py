"""The critical-difference diagram [Demšar 2006]: mean ranks on a line, bars over losses that do not differ.

Every name has a row of its own, left for the better half and right for the rest, outside of the axis, so that names
cover neither each other nor the lines, however close the ranks are.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor

import numpy as np
from markupsafe import Markup

from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Ranking
from pipeline.report.formatting import shortened
from pipeline.report.styles import Styles
from pipeline.report.svg import WIDTH, Scale, chart, element, text

LETTERS = 14
LETTER_WIDTH = 7.8
"""Of the widest usual font, bold and 12 units high."""

AXIS = 50.0
BAR_STEP = 8
ROW = 31


def critical_difference_plot(ranking: Ranking, styles: Styles) -> Markup | None:
    """Return the diagram of one metric (`pipeline.comparison.ranking.ranking`), None where it has no test of ranks."""
    critical = ranking.critical_difference
    if critical is None:
        return None
    ranks = dict(zip(ranking.losses, ranking.rank_then_mean, strict=True))
    order = sorted(ranks, key=lambda name: ranks[name])
    scale = _scale(ranks, critical)
    parts = [_ruler(scale, critical), _axis(scale)]
    y = AXIS + 12
    for group in ranking.groups:
        ends = [scale(ranks[name]) for name in (group[0], group[-1])]
        said = f"no difference shown: {', '.join(group)}"
        parts.append(
            element(
                "line",
                element("title", said),
                x1=ends[0] - 4,
                x2=ends[1] + 4,
                y1=float(y),
                y2=float(y),
                class_="clique",
            )
        )
        y += BAR_STEP
    left = order[: ceil(len(order) / 2)]
    right = order[len(left) :][::-1]
    first = y + 14
    for names, side in ((left, "end"), (right, "start")):
        parts += [
            _label(name, ranks[name], first + ROW * row, side, scale, styles[name].color)
            for row, name in enumerate(names)
        ]
    return chart(WIDTH, first + ROW * (len(left) - 1) + 22, "Mean ranks with the critical difference", *parts)


def unlike_the_verdict(ranking: Ranking, pairs: Sequence[PairResult]) -> list[tuple[str, str]]:
    """Return the pairs of one metric that the diagram sets apart and the verdict does not."""
    joined = [set(group) for group in ranking.groups]
    return [
        (pair.a, pair.b) for pair in pairs if pair.better is None and not any(pair.names <= group for group in joined)
    ]


def _scale(ranks: Mapping[str, float], critical: float) -> Scale:
    """Return the axis of whole ranks that holds all mean ranks, and is as long as the critical difference."""
    low, high = floor(min(ranks.values()) + 1e-9), ceil(max(ranks.values()) - 1e-9)
    while high - low < max(critical, 1):
        low, high = (low, high + 1) if high < len(ranks) else (low - 1, high)
    room = 18 + LETTER_WIDTH * min(LETTERS, max(len(name) for name in ranks))
    return Scale(low, high, room, WIDTH - room)


def _ruler(scale: Scale, critical: float) -> Markup:
    start, end = scale(scale.low), scale(scale.low + critical)
    path = f"M{start:.1f} 16V24M{start:.1f} 20H{end:.1f}M{end:.1f} 16V24"
    said = text(start, 10, f"critical difference {critical:.2f}", class_="tick")
    return element("g", element("path", d=path, class_="ruler"), said)


def _axis(scale: Scale) -> Markup:
    whole = range(int(scale.low), int(scale.high) + 1)
    step = ceil(len(whole) * 14 / (scale.end - scale.start))
    parts = [element("line", x1=scale.start, x2=scale.end, y1=AXIS, y2=AXIS, class_="ruler")]
    for rank in whole:
        parts.append(element("line", x1=scale(rank), x2=scale(rank), y1=AXIS - 5, y2=AXIS, class_="ruler"))
        if (rank - whole[0]) % step == 0:
            parts.append(text(scale(rank), AXIS - 9, str(rank), anchor="middle", class_="tick"))
    return element("g", *parts)


def _label(name: str, rank: float, y: float, side: str, scale: Scale, color: str) -> Markup:
    """Return the line from the axis to a name, the name, and beneath it the mean rank."""
    away = -1 if side == "end" else 1
    x = scale.start - 8 if side == "end" else scale.end + 8
    path = f"M{scale(rank):.1f} {AXIS:.1f}V{y:.1f}H{x:.1f}"
    return element(
        "g",
        element("title", f"{name}: mean rank {rank:.2f}"),
        element("path", d=path, stroke=color, class_="elbow"),
        element("circle", cx=scale(rank), cy=AXIS, r=3.2, fill=color),
        text(x + 4 * away, y + 4, shortened(name, LETTERS), anchor=side, class_="name"),
        text(x + 4 * away, y + 18, f"{rank:.2f}", anchor=side, class_="tick"),
    )


def rank_sentence(ranking: Ranking, apart: Sequence[tuple[str, str]]) -> str:
    """Return what stands beneath the diagram."""
    best = ranking.losses[int(np.argmin(ranking.rank_then_mean))]
    p = ranking.friedman_p
    said = f"Mean ranks over {ranking.patients} patients, {best} with the best. "
    if p is not None:
        said += f"Friedman's test of no difference at all: p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}. "
    if apart:
        pairs = ", ".join(f"{a} from {b}" for a, b in apart[:3]) + (f" and {len(apart) - 3} more" * (len(apart) > 3))
        said += f"It sets {pairs} apart, the verdict does not: these ranks leave out the noise of trainings."
    return said.strip()
