"""`segloss inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import out as console
from pipeline.cli.console import print_json, progress_bar
from pipeline.errors import ConfigError, DatasetError, ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.data.dataset import Dataset
    from pipeline.data.inspection import Inspection
    from pipeline.data.inspection_tables import TextTable


def inspect(
    dataset: Annotated[Path, typer.Argument(help="Folder (Decathlon, nnU-Net raw, of cases) or CSV/JSON list.")],
    workers: Annotated[int | None, typer.Option(help="Processes; left out: one a core.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Cases that cannot be used are no error of the request (exit code 1).")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check a dataset and measure it: problems, sizes, imbalance, and the plan that follows with its reasons."""
    from pipeline.data.datalists import read_dataset
    from pipeline.data.inspection import inspect_scan
    from pipeline.data.planning import make_plan
    from pipeline.data.scan import scan_dataset

    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}", "is less than one process", "give 1 or more")
    found = read_dataset(dataset, allow_missing=True)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(found.cases))
        result = scan_dataset(found, workers=workers, on_case=lambda: bar.advance(task))
    # A problem of no case is one of the dataset as a whole, e.g. labels without any foreground.
    usable = bool(result.dataset.cases) and all(problem.case for problem in result.errors)
    inspection = inspect_scan(found, result, make_plan(result.dataset, result.fingerprint) if usable else None)
    if json:
        print_json(inspection.to_json())
    else:
        _print(inspection)
    if not usable:
        cause = result.errors[0].line() if result.errors else "it has no cases"
        raise DatasetError(dataset, f"cannot be used: {cause}", "mend the problems listed")
    if missing := _missing(found):
        problem = f"{len(missing)} files it names do not exist, the first is {missing[0]}"
        raise DatasetError(dataset, problem, "correct the paths, or take the cases out")
    if result.errors and not skip_bad:
        bad = len({problem.case for problem in result.errors})
        listed = "" if bad == 1 else f"{bad} of {len(found.cases)} cases cannot be used, all are listed: "
        first = result.errors[0]
        remedy = f"{first.remedy}, or give --skip-bad to go on without"
        raise DatasetError(first.file, f"{listed}{first.problem}", remedy)
    if result.errors:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


LONGEST_WORD = 20
"""Longer words, such as case names, may be broken where a terminal is narrow."""


def _missing(dataset: "Dataset") -> list[Path]:
    return [path for case in dataset.cases for path in case.files if not path.exists()]


def _print(inspection: "Inspection") -> None:
    from pipeline.data.inspection_tables import inspection_tables

    of = "" if inspection.cases == inspection.cases_found else f" of {inspection.cases_found}"
    head = f"{inspection.name}: {inspection.cases}{of} cases usable, {inspection.patients} patients"
    console.print(head, style="bold", highlight=False, markup=False)
    for severity, style in (("error", "red"), ("note", "yellow")):
        for problem in inspection.problems:
            if problem.severity == severity:
                console.print(f"{severity}: {problem.line()}", style=style, highlight=False, markup=False)
    for table in inspection_tables(inspection):
        console.print()
        console.print(_rich(table))


def _rich(table: "TextTable") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(
        box=box.SIMPLE_HEAD,
        title=table.title,
        title_justify="left",
        caption=escape(table.caption) or None,
        caption_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    last = len(table.header) - 1
    for index, name in enumerate(table.header):
        prose = index == 0 or (table.ends_in_prose and index == last)
        cells = [name, *(row[index] for row in table.rows)]
        drawn.add_column(
            name,
            justify="left" if prose or table.ends_in_prose else "right",
            overflow="fold",
            min_width=max(
                (len(word) for cell in cells for word in cell.split() if len(word) <= LONGEST_WORD), default=1
            ),
        )
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    return drawn
