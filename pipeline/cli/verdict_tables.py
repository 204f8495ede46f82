"""Print a verdict on a terminal: sentences, caveats, means and pairs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.cli.budget_table import budgets_table
from pipeline.comparison.phrases import counted, signed
from pipeline.records.metrics import Metric, metric_of
from pipeline.records.pair_result import PairResult
from pipeline.records.states import State
from pipeline.records.verdict import LossResult, MetricSummary, Verdict

if TYPE_CHECKING:
    from rich.console import Console

MAXIMUM_PAIRS = 30
"""Rows of the table of pairs; the JSON has all pairs."""

STATE_HEADINGS = {State.MISSED: "missed", State.FALSE_POSITIVE: "false pos.", State.CORRECT_ABSENCE: "absent"}
"""Headings of the columns that count states, in their order."""


def print_verdict(verdict: Verdict, console: "Console") -> None:
    """Print the recommendation first, then caveats, means and pairs."""
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
        console.print(_means_table(verdict, console.width))
        failures = _failures_table(verdict)
        if failures is not None:
            console.print()
            console.print(failures)
    if verdict.budgets is not None:
        console.print()
        console.print(budgets_table(verdict.budgets))
    if verdict.pairs:
        console.print()
        pairs = _shown_pairs(verdict)[:MAXIMUM_PAIRS]
        console.print(_pairs_table(pairs, verdict.confidence))
        hidden = len(verdict.pairs) - len(pairs)
        if hidden > 0:
            console.print(f"{counted(hidden, 'more pair', 'more pairs')}: see --json or --out", highlight=False)


def _means_table(verdict: Verdict, width: int) -> Table:
    """Return the means of each loss by each metric, with intervals if the terminal is wide enough."""
    metrics = [metric_of(name) for name in verdict.ranking]
    has_room = width >= 26 + 14 * len(metrics)
    intervals = f", with {100 * verdict.confidence:g} % intervals" if has_room else ""
    table = _table(f"Means over {counted(verdict.cases, 'case', 'cases')}{intervals}")
    table.add_column("loss", overflow="fold")
    for heading in (*(metric.short for metric in metrics), "cases"):
        table.add_column(heading, justify="right", no_wrap=not has_room)
    for loss in verdict.losses:
        cases = next((summary.cases for summary in loss.metrics.values()), 0)
        table.add_row(
            escape(loss.name) + (" *" if loss.set_aside else ""),
            *(_mean(metric, loss.metrics.get(metric.name), has_room, cases) for metric in metrics),
            str(cases),
            style="bold" if loss.name == verdict.recommended else None,
        )
    if verdict.set_aside:
        table.caption = "* not compared"
    return table


def _failures_table(verdict: Verdict) -> Table | None:
    """Return the failures of each loss (states, failed cases and collapsed runs); None if there are none."""
    states = [state for state in STATE_HEADINGS if any(getattr(loss.counts, state) for loss in verdict.losses)]
    failing = verdict.primary if any(_failure_rate(loss, verdict.primary) for loss in verdict.losses) else ""
    collapsed = any(loss.collapsed_runs for loss in verdict.losses)
    headings = [STATE_HEADINGS[state] for state in states]
    headings += ["cases below 0.5"] * bool(failing) + ["collapsed runs"] * collapsed
    if not headings:
        return None
    table = _table("Failures, and structures that are absent; counts are of classes of cases")
    table.add_column("loss", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    for loss in verdict.losses:
        table.add_row(
            escape(loss.name),
            *(str(getattr(loss.counts, state)) for state in states),
            *([_percent(_failure_rate(loss, failing))] if failing else []),
            *([f"{loss.collapsed_runs} of {loss.collapse.of if loss.collapse else 0}"] if collapsed else []),
            style="bold" if loss.name == verdict.recommended else None,
        )
    return table


def _failure_rate(loss: LossResult, metric: str) -> float | None:
    """Return the share of cases in which a loss fails by this metric; None if that is not defined."""
    summary = loss.metrics.get(metric)
    return None if summary is None else summary.failure_rate


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _shown_pairs(verdict: Verdict) -> list[PairResult]:
    """Return the pairs to print; a control (the same loss again) is shown only against the loss that it repeats."""
    controls = verdict.controls
    return [
        pair
        for pair in verdict.pairs
        if not pair.names & set(controls) or pair.b == controls.get(pair.a) or pair.a == controls.get(pair.b)
    ]


def _pairs_table(pairs: Sequence[PairResult], confidence: float) -> Table:
    """Return the differences of the pairs, which are sorted by metric."""
    noise_known = any(pair.noise_floor is not None for pair in pairs)
    title = "Pairs, on the same cases; shares in points (hundredths)"
    table = _table(title + ("; noise: difference between two studies of one loss (SD)" if noise_known else ""))
    table.add_column("metric")
    table.add_column("a - b", overflow="fold")
    for column in ("gap", f"{100 * confidence:g} % interval", "p", *(["noise"] if noise_known else []), "same?"):
        table.add_column(column, justify="right", no_wrap=True)
    table.collapse_padding = True
    previous = None
    for pair in pairs:
        metric, noise = metric_of(pair.metric), pair.noise_floor
        low, high = metric.possible_interval(pair.ci_low, pair.ci_high)
        table.add_row(
            "" if metric == previous else escape(metric.short),
            escape(f"{pair.a} - {pair.b}"),
            signed(metric.factor * pair.difference),
            f"{signed(metric.factor * low)} to {signed(metric.factor * high)}",
            _p_value(pair),
            *(["?" if noise is None else f"{metric.factor * noise:.2f}"] if noise_known else []),
            "yes" if pair.equivalent else "",
            style="bold" if pair.better else None,
        )
        previous = metric
    margins = {metric_of(pair.metric).short: f"{metric_of(pair.metric).factor * pair.margin:g}" for pair in pairs}
    table.caption = (
        "bold: clearly different; p: t test of the mean, corrected for all pairs (Holm); same?: within the margin ("
        + ", ".join(f"{name} {margin}" for name, margin in margins.items())
        + ")"
        + ("" if noise_known else "; noise between seeds: one seed, not measured")
    )
    return table


def _p_value(pair: PairResult) -> str:
    """Return the corrected p value; a dash for single trainings, whose p would ignore the noise of trainings."""
    if not pair.replicated:
        return "-"
    return "<0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", pad_edge=False)


def _mean(metric: Metric, summary: MetricSummary | None, with_interval: bool, cases: int) -> str:
    """Return a mean, with its number of cases if that is not `cases`, and its interval on a second line."""
    if summary is None:
        return "-"
    text = f"{summary.mean:.{metric.decimals}f}"
    text += "" if summary.cases == cases else f" ({counted(summary.cases, 'case', 'cases')})"
    if not with_interval or summary.ci_low is None or summary.ci_high is None:
        return text
    decimals = min(metric.decimals, 3)
    return f"{text}\n{summary.ci_low:.{decimals}f}–{summary.ci_high:.{decimals}f}"
