"""`segloss evaluate`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import err, print_json, progress
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, DatasetError, ExitCode

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.metrics.evaluation import Evaluation
    from pipeline.records.tolerance import Tolerance


def evaluate(
    references: Annotated[Path, typer.Argument(help="Folder of reference label maps (.nii, .nii.gz), or one file.")],
    predictions: Annotated[Path, typer.Argument(help="Folder of masks of the same names, from any tool, or one file.")],
    out: Annotated[Path | None, typer.Option(help="Write every value to this CSV, for `segloss compare`.")] = None,
    loss: Annotated[
        str | None, typer.Option("--loss", "--name", help="Name of the loss or tool; default: the folder's name.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of the training that made the predictions.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of that training.")] = 0,
    splits: Annotated[
        Path | None,
        typer.Option(help="nnU-Net's splits_final.json: the fold of each case. With --fold, only its cases."),
    ] = None,
    tolerance_mm: Annotated[
        str | None,
        typer.Option(
            help="Tolerance of surface Dice in mm, e.g. 2 or lesion=1,organ=3; default: the pixel size in plane."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="E.g. 1=anterior,2=posterior; default: from dataset.json, or the values found.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare masks of any tool with references: all metrics of masks, in mm, for each case and class."""
    from pipeline.data.layouts.splits import read_splits
    from pipeline.metrics.aggregate import summarise
    from pipeline.metrics.evaluation import evaluate_folders
    from pipeline.records.table import write_table
    from pipeline.records.tolerance import ToleranceRequest

    _check_options(out, fold, seed, workers)
    asked = ToleranceRequest.parse(tolerance_mm)
    fold_of = None if splits is None else read_splits(splits)
    with progress() as bar:
        task = bar.add_task("evaluating", total=None)
        found = evaluate_folders(
            references,
            predictions,
            None if classes is None else _parse_classes(classes),
            asked,
            _cases_of(fold_of, fold, splits),
            workers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_notes(found, None if fold is not None else splits)
    if not found.cases:
        raise DatasetError(
            predictions, f"none of {len(found.failures)} cases could be evaluated", "see the lines above"
        )
    if not found.classes:
        raise DatasetError(references, "holds no class but the background, nor do the predictions", "name --classes")

    name = loss or (predictions if predictions.is_dir() else predictions.parent).resolve().name
    table = found.table(name, fold_of if fold_of is not None and fold is None else fold or 0, seed)
    if out is not None:
        write_table(out, table)
    summary = summarise(table)
    if json:
        print_json(
            {
                "loss": name,
                "folds": sorted(table["fold"].unique().tolist()),
                "seed": seed,
                "cases": len(found.cases),
                "classes": {str(value): label for value, label in found.classes.items()},
                "tolerance_mm": found.tolerance.mm,
                "tolerance_mm_by_class": dict(found.tolerance.by_class),
                "summary": _records(summary),
                "failed": [asdict(failure) for failure in found.failures],
                "extra": [str(path) for path in found.extra],
                "out": None if out is None else str(out),
            }
        )
    else:
        _print_summary(summary, name, len(found.cases), found.tolerance)
        if out is not None:
            console.print(f"Every value: {out}", highlight=False, markup=False)
    if found.failures:
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


def _cases_of(fold_of: Mapping[str, int] | None, fold: int | None, splits: Path | None) -> list[str] | None:
    """Return the cases to evaluate: those of one fold, those of all folds, or None (all) without splits."""
    if fold_of is None:
        return None
    cases = [case for case, index in fold_of.items() if fold in (None, index)]
    if not cases:
        raise ConfigError(f"--fold {fold}", f"is not in {splits}", f"give 0 to {max(fold_of.values(), default=0)}")
    return cases


def _parse_classes(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in text.split(","):
        value, _, label = (piece.strip() for piece in part.partition("="))
        if not value.isascii() or not value.isdigit() or int(value) < 1 or int(value) in found:
            raise ConfigError(f"--classes {text}", f"has {part!r}", "write e.g. 1=anterior,2=posterior")
        found[int(value)] = label or value
    if len(set(found.values())) < len(found):
        raise ConfigError(f"--classes {text}", "gives two classes one name", "name each class differently")
    return dict(sorted(found.items()))


def _print_notes(found: "Evaluation", splits: Path | None) -> None:
    """Print what was not evaluated, one line each; `splits` where cases without a fold were left out."""
    for failure in found.failures:
        err.print(f"{failure.file}: {failure.problem}; {failure.remedy}", highlight=False, markup=False)
    for path in found.extra:
        err.print(f"{path}: has no reference; left out", highlight=False, markup=False)
    if splits is not None:
        for path in found.left_out:
            err.print(f"{path}: is in no validation set of {splits}; left out", highlight=False, markup=False)
    if found.other_values:
        err.print(f"values of no class, left out: {', '.join(map(str, found.other_values))}", highlight=False)


def _records(summary: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows as JSON objects, None for a mean over nothing."""
    rows = summary.drop(columns="loss").astype(object)
    return [
        {str(key): value for key, value in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")
    ]


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
    if value != value:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
