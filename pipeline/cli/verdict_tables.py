"""The verdict as text for a terminal: sentences, caveats, means and pairs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.comparison.bounds import possible
from pipeline.comparison.phrases import counted, signed
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import LossResult, MetricSummary, Verdict

if TYPE_CHECKING:
    from rich.console import Console

MOST_PAIRS = 30
"""Rows of the pairwise table on a terminal; the JSON holds all."""

SHORT = {"dice": "Dice", "hausdorff95_mm": "HD95 mm", "hausdorff_mm": "HD mm", "assd_mm": "ASSD mm", "nsd": "NSD"}
STATES = {"missed": "missed", "false_positive": "false pos.", "correct_absence": "absent"}


def print_verdict(verdict: Verdict, console: "Console") -> None:
    """Print what to do first, then caveats, means and every pair."""
    words = verdict.words
    if words:
        console.print(words[0], style="bold", highlight=False, markup=False)
    for sentence in words[1:]:
        console.print(f"  {sentence}", highlight=False, markup=False)
    for sentence in verdict.operating_points.words[1:] if verdict.operating_points is not None else ():
        console.print(f"    {sentence}", highlight=False, markup=False)
    for sentence in verdict.caveats:
        console.print(f"  ! {sentence}", highlight=False, markup=False)
    if verdict.losses and verdict.ranking:
        console.print()
        console.print(_losses_table(verdict, console.width))
    if verdict.pairs:
        console.print()
        pairs = _shown_pairs(verdict)[:MOST_PAIRS]
        console.print(_pairs_table(pairs, verdict.confidence))
        left = len(verdict.pairs) - len(pairs)
        if left > 0:
            console.print(f"and {left} pair{'s' if left > 1 else ''} more: see --json or --out", highlight=False)


def _losses_table(verdict: Verdict, width: int) -> Table:
    metrics = list(verdict.ranking)
    states = [name for name in STATES if any(getattr(loss.counts, name) for loss in verdict.losses)]
    failing = verdict.primary if any(_failure_rate(loss, verdict.primary) for loss in verdict.losses) else ""
    collapsed = any(loss.collapsed_runs for loss in verdict.losses)
    room = width >= 26 + 14 * len(metrics)
    below = f", below them {100 * verdict.confidence:g} % intervals" if room else ""
    table = _table(f"Means over {counted(verdict.cases, 'case', 'cases')}{below}")
    table.add_column("loss", overflow="fold")
    for name in [*(SHORT.get(metric, metric) for metric in metrics), "cases", *(STATES[state] for state in states)]:
        table.add_column(name, justify="right")
    if failing:
        table.add_column("below 0.5", justify="right")
    if collapsed:
        table.add_column("collapsed runs", justify="right")
    for loss in verdict.losses:
        first = next((summary.cases for summary in loss.metrics.values()), 0)
        table.add_row(
            escape(loss.name) + (" *" if loss.set_aside else ""),
            *(_mean(metric, loss.metrics.get(metric), room, first) for metric in metrics),
            str(first),
            *(str(getattr(loss.counts, state)) for state in states),
            *([_percent(_failure_rate(loss, failing))] if failing else []),
            *([f"{loss.collapsed_runs} of {loss.collapse.of if loss.collapse else 0}"] if collapsed else []),
            style="bold" if loss.name == verdict.recommended else None,
        )
    if verdict.set_aside:
        table.caption = "* takes no part in the comparison"
    return table


def _failure_rate(loss: LossResult, metric: str) -> float | None:
    """Return the share of cases in which a loss fails by this metric, None where that is not defined."""
    summary = loss.metrics.get(metric)
    return None if summary is None else summary.failure_rate


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _shown_pairs(verdict: Verdict) -> list[PairResult]:
    """Return the pairs; a control (the same loss twice) is shown against its own loss alone. The JSON has all."""
    controls = verdict.controls
    return [
        pair
        for pair in verdict.pairs
        if not pair.names & set(controls) or pair.b == controls.get(pair.a) or pair.a == controls.get(pair.b)
    ]


def _pairs_table(pairs: Sequence[PairResult], confidence: float) -> Table:
    noise_known = any(pair.noise_floor is not None for pair in pairs)
    title = "Pairs, on the same cases; shares in points (hundredths)"
    table = _table(title + ("; noise: how far two studies of one loss differ (SD)" if noise_known else ""))
    table.add_column("metric")
    table.add_column("a - b", overflow="fold")
    for column in ("gap", f"{100 * confidence:g} % interval", "p", *(["noise"] if noise_known else []), "same?"):
        table.add_column(column, justify="right", no_wrap=True)
    table.collapse_padding = True
    before = None
    for pair in pairs:
        metric, noise = pair.metric, pair.noise_floor
        low, high = possible(metric, pair.ci_low, pair.ci_high)
        table.add_row(
            "" if metric == before else escape(SHORT.get(metric, metric)),
            escape(f"{pair.a} - {pair.b}"),
            _signed(metric, pair.difference),
            f"{_signed(metric, low)} to {_signed(metric, high)}",
            _p_value(pair),
            *(["?" if noise is None else f"{_factor(metric) * noise:.2f}"] if noise_known else []),
            "yes" if pair.equivalent else "",
            style="bold" if pair.better else None,
        )
        before = metric
    margins = {SHORT.get(pair.metric, pair.metric): f"{_factor(pair.metric) * pair.margin:g}" for pair in pairs}
    table.caption = (
        "bold: clearly different; p: t test of the mean, corrected for all pairs (Holm); same?: within the margin ("
        + ", ".join(f"{name} {margin}" for name, margin in margins.items())
        + ")"
        + ("" if noise_known else "; noise between seeds: one seed, not measured")
    )
    return table


def _p_value(pair: PairResult) -> str:
    """Return the corrected p; none where trainings were not replicated, since it would be that of patients alone."""
    if not pair.replicated:
        return "-"
    return "<0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", pad_edge=False)


def _amount(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric.endswith("_mm") else f"{value:.4f}"


def _factor(metric: str) -> float:
    return metric_of(metric).factor


def _signed(metric: str, value: float) -> str:
    return signed(_factor(metric) * value)


def _mean(metric: str, summary: MetricSummary | None, interval: bool, cases: int) -> str:
    if summary is None:
        return "-"
    text = _amount(metric, summary.mean) + ("" if summary.cases == cases else f" ({summary.cases} cases)")
    if not interval or summary.ci_low is None or summary.ci_high is None:
        return text
    places = 2 if metric.endswith("_mm") else 3
    return f"{text}\n{summary.ci_low:.{places}f}–{summary.ci_high:.{places}f}"
