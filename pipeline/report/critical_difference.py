"""The critical-difference diagram [Demšar 2006]: mean ranks on an axis, and bars over losses that do not differ.

Names stand beside the axis, the better half on the left and the rest on the right, each in a row of its own. So they
cover neither each other nor the lines, however close the ranks are.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor

import numpy as np
from markupsafe import Markup

from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import Ranking
from pipeline.report.formatting import p_value, shortened
from pipeline.report.styles import Styles
from pipeline.report.svg import WIDTH, Scale, chart, element, text

LETTERS = 14
"""Longest name in letters."""

LETTER_WIDTH = 7.8
"""Width of a letter in the widest common font, bold and 12 units high."""

AXIS = 50.0
BAR_STEP = 8
ROW = 31


def critical_difference_plot(ranking: Ranking, styles: Styles) -> Markup | None:
    """Return the diagram of one metric (`pipeline.comparison.ranking.ranking`), None if its ranks were not tested."""
    critical = ranking.critical_difference
    if critical is None:
        return None
    ranks = dict(zip(ranking.losses, ranking.rank_then_mean, strict=True))
    order = sorted(ranks, key=lambda name: ranks[name])
    scale = _scale(ranks, critical)
    parts = [_ruler(scale, critical), _axis(scale)]
    y = AXIS + 12
    for group in ranking.groups:
        first, last = (scale(ranks[name]) for name in (group[0], group[-1]))
        title = element("title", f"no difference shown: {', '.join(group)}")
        parts.append(element("line", title, x1=first - 4, x2=last + 4, y1=float(y), y2=float(y), class_="clique"))
        y += BAR_STEP
    left = order[: ceil(len(order) / 2)]
    right = order[len(left) :][::-1]
    top = y + 14
    for names, anchor in ((left, "end"), (right, "start")):
        parts += [
            _label(name, ranks[name], top + ROW * row, anchor, scale, styles[name].color)
            for row, name in enumerate(names)
        ]
    return chart(WIDTH, top + ROW * (len(left) - 1) + 22, "Mean ranks with the critical difference", *parts)


def separated_by_ranks_only(ranking: Ranking, pairs: Sequence[PairResult]) -> list[tuple[str, str]]:
    """Return the pairs of one metric that the diagram separates although the verdict does not."""
    groups = [set(group) for group in ranking.groups]
    return [
        (pair.a, pair.b) for pair in pairs if pair.better is None and not any(pair.names <= group for group in groups)
    ]


def _scale(ranks: Mapping[str, float], critical: float) -> Scale:
    """Return an axis of whole ranks that holds all mean ranks and is at least as long as the critical difference."""
    low, high = floor(min(ranks.values()) + 1e-9), ceil(max(ranks.values()) - 1e-9)
    while high - low < max(critical, 1):
        low, high = (low, high + 1) if high < len(ranks) else (low - 1, high)
    room = 18 + LETTER_WIDTH * min(LETTERS, max(len(name) for name in ranks))
    return Scale(low, high, room, WIDTH - room)


def _ruler(scale: Scale, critical: float) -> Markup:
    """Return a line as long as the critical difference, above the axis."""
    start, end = scale(scale.low), scale(scale.low + critical)
    path = f"M{start:.1f} 16V24M{start:.1f} 20H{end:.1f}M{end:.1f} 16V24"
    label = text(start, 10, f"critical difference {critical:.2f}", class_="tick")
    return element("g", element("path", d=path, class_="ruler"), label)


def _axis(scale: Scale) -> Markup:
    ranks = range(int(scale.low), int(scale.high) + 1)
    step = ceil(len(ranks) * 14 / (scale.end - scale.start))
    parts = [element("line", x1=scale.start, x2=scale.end, y1=AXIS, y2=AXIS, class_="ruler")]
    for rank in ranks:
        parts.append(element("line", x1=scale(rank), x2=scale(rank), y1=AXIS - 5, y2=AXIS, class_="ruler"))
        if (rank - ranks[0]) % step == 0:
            parts.append(text(scale(rank), AXIS - 9, str(rank), anchor="middle", class_="tick"))
    return element("g", *parts)


def _label(name: str, rank: float, y: float, anchor: str, scale: Scale, color: str) -> Markup:
    """Return the line from the axis to a name, the name, and beneath it the mean rank."""
    outward = -1 if anchor == "end" else 1
    x = scale.start - 8 if anchor == "end" else scale.end + 8
    path = f"M{scale(rank):.1f} {AXIS:.1f}V{y:.1f}H{x:.1f}"
    return element(
        "g",
        element("title", f"{name}: mean rank {rank:.2f}"),
        element("path", d=path, stroke=color, class_="elbow"),
        element("circle", cx=scale(rank), cy=AXIS, r=3.2, fill=color),
        text(x + 4 * outward, y + 4, shortened(name, LETTERS), anchor=anchor, class_="name"),
        text(x + 4 * outward, y + 18, f"{rank:.2f}", anchor=anchor, class_="tick"),
    )


def rank_note(ranking: Ranking, separated: Sequence[tuple[str, str]]) -> str:
    """Return the note beneath the diagram; `separated` are the pairs that ranks alone separate."""
    best = ranking.losses[int(np.argmin(ranking.rank_then_mean))]
    note = f"Mean ranks over {ranking.patients} patients; {best} has the best. "
    p = ranking.friedman_p
    if p is not None:
        relation = p_value(p) if p < 0.001 else f"= {p_value(p)}"
        note += f"Friedman's test of no difference among all losses: p {relation}. "
    if separated:
        pairs = ", ".join(f"{a} from {b}" for a, b in separated[:3])
        more = f" and {len(separated) - 3} more pairs" if len(separated) > 3 else ""
        note += f"It separates {pairs}{more}; the verdict does not, because ranks ignore the noise of trainings."
    return note.strip()
