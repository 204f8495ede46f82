"""`whichloss evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json, progress_bar
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.metrics.evaluation import Evaluation
    from pipeline.records.tolerance import Tolerance


def evaluate(
    references: Annotated[Path, typer.Argument(help="Folder of reference label maps (.nii, .nii.gz), or one file.")],
    predictions: Annotated[
        Path, typer.Argument(help="Folder of masks with the same names, from any tool, or one file.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write every value to this CSV, for `whichloss compare`.")] = None,
    loss: Annotated[
        str | None, typer.Option("--loss", "--name", help="Name of the loss or tool; default: the folder's name.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of the training that made the predictions.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of that training.")] = 0,
    splits: Annotated[
        Path | None,
        typer.Option(help="nnU-Net's splits_final.json, which gives the fold of each case; --fold selects one."),
    ] = None,
    tolerance_mm: Annotated[
        str | None,
        typer.Option(
            help="Tolerance of surface Dice in mm, e.g. 2 or lesion=1,organ=3; default: the pixel size in plane."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Classes, e.g. 1=anterior,2=posterior; default: from dataset.json, or the values in the files."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes; default: one per core.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compute all metrics of masks, from any tool, for each case and class; distances in mm."""
    from pipeline.data.layouts.splits import cases_of_fold, read_splits
    from pipeline.metrics.aggregate import summarize
    from pipeline.metrics.evaluation import evaluate_folders
    from pipeline.records.table import write_table
    from pipeline.records.tolerance import ToleranceRequest

    _check_options(out, fold, seed, workers)
    tolerance = ToleranceRequest.parse(tolerance_mm)
    fold_of_case = None if splits is None else read_splits(splits)
    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)
        evaluation = evaluate_folders(
            references,
            predictions,
            None if classes is None else _parse_classes(classes),
            tolerance,
            None if fold_of_case is None or splits is None else cases_of_fold(fold_of_case, fold, splits),
            workers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_notes(evaluation, None if fold is not None else splits)
    name = loss or evaluation.default_name
    table = evaluation.table(name, fold_of_case if fold_of_case is not None and fold is None else fold or 0, seed)
    if out is not None:
        write_table(out, table)
    summary = summarize(table)
    if json:
        print_json(
            {
                "loss": name,
                "folds": sorted(table["fold"].unique()),
                "seed": seed,
                "cases": len(evaluation.cases),
                "classes": evaluation.classes,
                "tolerance_mm": evaluation.tolerance.mm,
                "tolerance_mm_by_class": evaluation.tolerance.by_class,
                "summary": summary.drop(columns="loss").to_dict("records"),
                "failed": evaluation.failures,
                "extra": evaluation.extra,
                "out": out,
            }
        )
    else:
        _print_summary(summary, name, len(evaluation.cases), evaluation.tolerance)
        if out is not None:
            console.print(f"Every value: {out}", highlight=False, markup=False)
    if evaluation.failures:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _check_options(out: Path | None, fold: int | None, seed: int, workers: int | None) -> None:
    if fold is not None and fold < 0:
        raise ConfigError(f"--fold {fold}", "is negative", "give 0 or more")
    if seed < 0:
        raise ConfigError(f"--seed {seed}", "is negative", "give 0 or more")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}", "is less than one process", "give 1 or more")
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}", "is a folder", "name a file, e.g. cases.csv")


def _parse_classes(text: str) -> dict[int, str]:
    classes: dict[int, str] = {}
    for part in text.split(","):
        value, _, label = (piece.strip() for piece in part.partition("="))
        if not value.isascii() or not value.isdigit() or int(value) < 1 or int(value) in classes:
            raise ConfigError(f"--classes {text}", f"cannot be read at {part!r}", "write e.g. 1=anterior,2=posterior")
        classes[int(value)] = label or value
    if len(set(classes.values())) < len(classes):
        raise ConfigError(f"--classes {text}", "gives two classes the same name", "name each class differently")
    return dict(sorted(classes.items()))


def _print_notes(evaluation: "Evaluation", splits: Path | None) -> None:
    """Print one line for each file that was not evaluated; `splits` if cases without a fold were left out."""
    for failure in evaluation.failures:
        err.print(f"{failure.file}: {failure.problem}; {failure.remedy}", highlight=False, markup=False)
    for path in evaluation.extra:
        err.print(f"{path}: has no reference; left out", highlight=False, markup=False)
    if splits is not None:
        for path in evaluation.left_out:
            err.print(f"{path}: is in no validation set of {splits}; left out", highlight=False, markup=False)
    if evaluation.other_values:
        values = ", ".join(map(str, evaluation.other_values))
        err.print(f"label values that are not among the classes, left out: {values}", highlight=False)


def _print_summary(summary: "pd.DataFrame", loss: str, cases: int, tolerance: "Tolerance") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{escape(loss)}, {cases} case{'s' if cases > 1 else ''}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("class, metric", overflow="fold")
    for head in ("mean ± sd", "median", "cases", "missed", "false+", "absent"):
        table.add_column(head, justify="right", no_wrap=True)
    for label, rows in summary.groupby("class", sort=False):
        table.add_row(f"[bold]{escape(str(label))}[/]")
        for row in rows.to_dict("records"):
            metric = row["metric"] if row["metric"] != "nsd" else f"nsd ({tolerance.of(str(label)):g} mm)"
            counts = (str(row[count]) for count in ("defined", "missed", "false_positive", "correct_absence"))
            values = f"{_number(row['mean'])} ± {_number(row['std'])}", _number(row["median"])
            table.add_row(f" {metric}", *values, *counts)
    console.print(table)
    console.print(
        "cases: those of the mean, with missed and false+ (false positives) at overlap 0 and the image's diagonal;\n"
        "absent: neither mask holds the class, no value",
        style="dim",
        highlight=False,
    )


def _number(value: float) -> str:
    if value != value:  # NaN
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
