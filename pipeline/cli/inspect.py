"""`whichloss inspect`."""

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
    dataset: Annotated[
        Path, typer.Argument(help="Folder (Decathlon, nnU-Net raw, or one folder per case) or CSV/JSON list.")
    ],
    workers: Annotated[int | None, typer.Option(help="Number of processes; default: one per core.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit with code 1 instead of 2 if some cases cannot be used.")
    ] = False,
    ignore_label: Annotated[
        int | None,
        typer.Option(help="Label value of voxels that nobody annotated; default: 'ignore' in dataset.json."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check and measure a dataset: problems, sizes, class imbalance, and the resulting plan with its reasons."""
    from pipeline.data.datalists import read_dataset
    from pipeline.data.inspection import inspect_scan
    from pipeline.data.planning import make_plan
    from pipeline.data.scan import scan_dataset

    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}", "is less than one process", "give 1 or more")
    source = read_dataset(dataset, allow_missing=True, ignore_label=ignore_label)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(source.cases))
        result = scan_dataset(source, workers=workers, on_case=lambda: bar.advance(task))
    # A problem without a case concerns the whole dataset, e.g. labels without any foreground.
    usable = bool(result.dataset.cases) and all(problem.case for problem in result.errors)
    inspection = inspect_scan(source, result, make_plan(result.dataset, result.fingerprint) if usable else None)
    if json:
        print_json(inspection.to_json())
    else:
        _print(inspection)
    if not usable:
        cause = result.errors[0].line() if result.errors else "it has no cases"
        raise DatasetError(dataset, f"cannot be used: {cause}", "correct the problems that are listed")
    if missing := _missing_files(source):
        problem = f"names {len(missing)} files that do not exist, first {missing[0]}"
        raise DatasetError(dataset, problem, "correct the paths, or remove the cases")
    if result.errors and not skip_bad:
        bad = len({problem.case for problem in result.errors})
        summary = "" if bad == 1 else f"{bad} of {len(source.cases)} cases cannot be used, all are listed: "
        first = result.errors[0]
        remedy = f"{first.remedy}, or give --skip-bad to ignore these cases"
        raise DatasetError(first.file, f"{summary}{first.problem}", remedy)
    if result.errors:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


LONGEST_WORD = 20
"""Longer words, such as names of cases, may be broken on a narrow terminal."""


def _missing_files(dataset: "Dataset") -> list[Path]:
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

    rich_table = Table(
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
        # Without a minimum width, rich folds columns in the middle of short words.
        rich_table.add_column(
            name,
            justify="left" if prose or table.ends_in_prose else "right",
            overflow="fold",
            min_width=max(
                (len(word) for cell in cells for word in cell.split() if len(word) <= LONGEST_WORD), default=1
            ),
        )
    for row in table.rows:
        rich_table.add_row(*map(escape, row))
    return rich_table
