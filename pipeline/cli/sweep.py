"""`whichloss sweep`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import out as console
from pipeline.cli.console import parse_positive_numbers, print_json
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from pipeline.report.sweep import SweepPoint
    from pipeline.study.sweep_folder import SweepFolder

LOSSES = "ce,weighted_ce,dice,dice_squared,dice_ce"
FRACTIONS = "0.1,0.03,0.01,0.003,0.001,0.0003,0.0001"


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of the sweep; the same command continues it.")] = Path("sweep"),
    losses: Annotated[str, typer.Option(help="Names, import paths with arguments, or a YAML file.")] = LOSSES,
    fractions: Annotated[str, typer.Option(help="Fractions of foreground voxels, e.g. 0.1,0.01,0.001.")] = FRACTIONS,
    seeds: Annotated[int, typer.Option(help="Seeds, i.e. trainings of each loss and fold at each fraction.")] = 3,
    folds: Annotated[int, typer.Option(help="Folds at each fraction.")] = 2,
    cases: Annotated[int, typer.Option(help="Phantoms at each fraction.")] = 16,
    budget: Annotated[str, typer.Option(help="Training budget per run, e.g. 120s, 5min or 200steps.")] = "200steps",
    edge: Annotated[int, typer.Option(help="Voxels along each axis of a phantom.")] = 32,
    learning_rates: Annotated[
        str | None,
        typer.Option(help="Candidate learning rates, e.g. 0.001,0.004; a single rate is not searched."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Parallel runs; 1 runs all in this process. Default: chosen for this machine."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the points as JSON.")] = False,
) -> None:
    """Train each loss on phantoms with 10 % to 0.01 % foreground and compare Dice and Hausdorff distance."""
    from pipeline.cli.study import ProgressBars
    from pipeline.study.sweep import SweepRequest, run_sweep

    request = SweepRequest(
        out=out,
        losses=losses,
        fractions=parse_positive_numbers("--fractions", fractions),
        seeds=seeds,
        folds=folds,
        cases=cases,
        budget=budget,
        shape=(edge, edge, edge),
        learning_rates=parse_positive_numbers("--learning-rates", learning_rates) if learning_rates else None,
        jobs=jobs,
        command="whichloss " + " ".join(sys.argv[1:]),
    )
    with ProgressBars() as progress:
        folder = run_sweep(request, progress, write_page)
    points = write_page(folder)
    if json:
        from pipeline.report.sweep import points_json

        files = {"table": str(folder.table), "page": str(folder.page), "figure": str(folder.figure)}
        print_json({"sweep": str(folder.root), **files, "points": points_json(points)})
    else:
        _print(points)
        console.print(f"\nTable:  {folder.table}\nPage:   {folder.page}", highlight=False, markup=False)
    if any(point.collapsed for point in points):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def write_page(folder: "SweepFolder") -> "Sequence[SweepPoint]":
    """Write page and figure of the results so far and return their points."""
    from pipeline.report.sweep import level_verdicts, read_sweep, sweep_points
    from pipeline.report.sweep_page import SweepSettings, sweep_figure, sweep_page
    from pipeline.system.files import write_text

    table = read_sweep(folder.table)
    points = sweep_points(table)
    record = folder.read_record()
    settings = SweepSettings(
        cases=record.request.cases,
        shape=record.request.shape,
        folds=record.request.folds,
        budget=record.request.budget,
        command=record.command or "whichloss sweep",
    )
    write_text(folder.page, sweep_page(points, level_verdicts(table), settings))
    write_text(folder.figure, sweep_figure(points))
    return points


def _print(points: "Sequence[SweepPoint]") -> None:
    """Print a table for each metric, with a row for each fraction and a column for each loss."""
    from rich.table import Table

    from pipeline.records.metrics import metric_of
    from pipeline.report.sweep import METRICS
    from pipeline.report.sweep_page import losses_of, sweep_rows

    for metric in METRICS:
        table = Table("foreground", title=metric_of(metric).heading, title_justify="left", box=None, pad_edge=False)
        for name in losses_of(points):
            table.add_column(name)
        for label, row in sweep_rows(points, metric):
            table.add_row(label, *(f"{shown}\n[dim]{small}[/]" for shown, small in row))
        console.print(table)
