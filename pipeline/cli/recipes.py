"""`whichloss study --recipes A,B`: progress, the combined verdict on a terminal, and the files."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.cli.console import print_json
from pipeline.comparison.phrases import counted, signed
from pipeline.comparison.recipe_words import CONCLUSIONS, possible_double_interval
from pipeline.errors import ExitCode
from pipeline.records.metrics import metric_of
from pipeline.records.recipes import Interaction, RecipeDifference, RecipeMean, RecipesFolder, RecipesVerdict

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.records.folder import StudyFolder
    from pipeline.study.progress import Progress
    from pipeline.study.request import StudyRequest

MAXIMUM_PAIRS = 30
"""Rows of a table of pairs; the JSON has all pairs."""

SHOWN_METRICS = 2
"""Metrics of the tables, the deciding one first; the JSON has all metrics."""

WIDE = 100
"""Columns of a terminal from which the table of pairs has intervals."""


def carry_out_recipes(
    request: "StudyRequest", recipes: Sequence[str], progress: AbstractContextManager["Progress"], *, as_json: bool
) -> RecipesFolder:
    """Run the studies of several recipes, then print the combined verdict; exit with code 1 if some runs collapsed."""
    from pipeline.cli.console import out as console
    from pipeline.report.build import build_report
    from pipeline.report.recipes import build_recipes
    from pipeline.study.recipes import run_recipes
    from pipeline.tracking.mirror import Mirror

    mirrors: list[Mirror] = []
    with ExitStack() as mirroring, progress as bars:

        def begin_mirror(begun: "StudyFolder") -> None:
            mirrors.append(mirroring.enter_context(Mirror(begun)))

        def report(folder: RecipesFolder, study: "StudyFolder") -> None:
            bars.message("comparing")
            build_report(study)
            for mirror in mirrors:
                mirror.finish(bars.message)
            mirrors.clear()
            build_recipes(folder)

        mirrored = request.track and request.part is None
        folder = run_recipes(request, recipes, bars, begin_mirror if mirrored else None, report)
        if request.part is not None:
            bars.message("done; the same command without --part gathers all parts, compares and reports")
            return folder
        verdict = build_recipes(folder)
    if as_json:
        print_json(verdict.to_json())
    else:
        print_recipes(verdict, console)
        print_files(folder, console)
        if request.track:
            console.print(f"MLflow:  whichloss ui {folder.study(recipes[0]).root}", highlight=False, markup=False)
    if any(outcome.collapsed for outcome in verdict.recipes):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)
    return folder


def report_recipes(path: Path, *, as_json: bool) -> None:
    """Write all reports of a folder of several studies again, and print the combined verdict."""
    from pipeline.cli.console import err
    from pipeline.cli.console import out as console
    from pipeline.report.recipes import rebuild_recipes

    folder = RecipesFolder(path)
    verdict = rebuild_recipes(folder, lambda recipe: err.print(f"recipe {recipe}", highlight=False, markup=False))
    if as_json:
        print_json(verdict.to_json())
        return
    print_recipes(verdict, console)
    print_files(folder, console)


def print_files(folder: RecipesFolder, console: "Console") -> None:
    """Print the paths of the combined page and table."""
    console.print(f"\nReport:  {folder.report}\nTable:   {folder.table}", highlight=False, markup=False)


def print_recipes(verdict: RecipesVerdict, console: "Console") -> None:
    """Print the combined verdict: sentences, caveats, means of losses by recipe, and interactions."""
    for index, sentence in enumerate(verdict.words):
        console.print(
            sentence if index == 0 else f"  {sentence}",
            style=None if index else "bold",
            highlight=False,
            markup=False,
        )
    for sentence in verdict.caveats:
        console.print(f"  ! {sentence}", highlight=False, markup=False)
    for outcome in verdict.recipes:
        console.print(f"\n{outcome.recipe}: {outcome.headline}", highlight=False, markup=False)
    shown = verdict.metrics[:SHOWN_METRICS]
    for metric in shown:
        console.print()
        console.print(_means_table(verdict, metric))
    with_interval = console.width >= WIDE
    for recipes in dict.fromkeys(pair.recipes for pair in verdict.pairs):
        pairs = [pair for metric in shown for pair in verdict.pairs_of(metric) if pair.recipes == recipes]
        console.print()
        console.print(_pairs_table(pairs[:MAXIMUM_PAIRS], verdict.confidence, with_interval))
        if len(pairs) > MAXIMUM_PAIRS:
            more = counted(len(pairs) - MAXIMUM_PAIRS, "more pair", "more pairs")
            console.print(f"{more}: see --json or the report", highlight=False)
    if len(verdict.metrics) > len(shown):
        more = counted(len(verdict.metrics) - len(shown), "more metric", "more metrics")
        console.print(f"{more}: see --json or the report", highlight=False)


def _means_table(verdict: RecipesVerdict, metric: str) -> Table:
    table = _table(f"{metric_of(metric).heading}: means over {counted(verdict.cases, 'case', 'cases')}")
    table.caption = "bold: the best mean of a recipe"
    table.add_column("loss", overflow="fold")
    for recipe in verdict.names:
        table.add_column(escape(recipe), justify="right")
    for loss in verdict.losses:
        cells = (_mean(verdict.mean_of(metric, recipe, loss)) for recipe in verdict.names)
        table.add_row(escape(loss), *cells)
    return table


def _mean(mean: RecipeMean | None) -> str:
    if mean is None:
        return "-"
    metric = metric_of(mean.metric)
    shown = f"{mean.mean:.{metric.decimals}f}"
    shown = f"[bold]{shown}[/]" if mean.best else shown
    if mean.ci_low is None or mean.ci_high is None:
        return shown
    decimals = min(metric.decimals, 3)
    return f"{shown}\n{mean.ci_low:.{decimals}f}–{mean.ci_high:.{decimals}f}"


def _pairs_table(pairs: Sequence[Interaction], confidence: float, with_interval: bool) -> Table:
    """Return the differences under two recipes and their change; the change has an interval if there is room."""
    first, second = pairs[0].recipes
    table = _table(f"Differences under {escape(first)} and {escape(second)}, and their change; shares in points")
    table.add_column("metric", no_wrap=True)
    table.add_column("a - b", overflow="fold")
    interval = [f"{100 * confidence:g} % interval"] * with_interval
    for column in (escape(first), escape(second), "change", *interval, "p", "verdict"):
        table.add_column(column, justify="right", no_wrap=True)
    table.collapse_padding = True
    previous = None
    for pair in pairs:
        metric = metric_of(pair.metric)
        low, high = (signed(metric.factor * bound) for bound in possible_double_interval(pair))
        table.add_row(
            "" if metric == previous else escape(metric.short),
            escape(f"{pair.a} - {pair.b}"),
            _difference(pair.first, metric.factor),
            _difference(pair.second, metric.factor),
            signed(metric.factor * pair.difference),
            *([f"{low} to {high}"] if with_interval else []),
            "-" if not pair.replicated else "<0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}",
            CONCLUSIONS[pair.verdict],
            style="bold" if pair.verdict == "differs" else None,
        )
        previous = metric
    table.caption = "*: clearly different under that recipe; p: t test of the change, corrected for all pairs (Holm)"
    return table


def _difference(one: RecipeDifference, factor: float) -> str:
    return signed(factor * one.difference) + (" *" if one.better else "")


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", pad_edge=False)
