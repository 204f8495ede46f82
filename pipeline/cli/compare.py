"""`segloss compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import out as console
from pipeline.cli.console import print_json
from pipeline.errors import ConfigError, RecordError

if TYPE_CHECKING:
    import pandas as pd


def compare(
    cases: Annotated[
        Path, typer.Argument(help="CSV with columns loss, case, metric, value (and fold, seed, class ..).")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the whole verdict to this JSON file.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to compare, for example dice,nsd. The first one decides.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes to compare, for example tumor. All classes by default.")
    ] = None,
    margin_dice: Annotated[
        float, typer.Option(help="Difference in Dice and other shares that does not matter.")
    ] = 0.005,
    margin_mm: Annotated[float, typer.Option(help="Difference in mm that does not matter.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals and of the verdict.")] = 0.95,
    training_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the deciding metric's mean between two trainings of one loss, for tables with "
            "a single training of each loss, for example 0.005."
        ),
    ] = None,
    miss_value: Annotated[
        float | None,
        typer.Option(help="Value of a missing distance, for example the diagonal of an image in mm."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="CSV with columns loss, fold, seed, case, class, threshold, dice: loss or threshold?"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say which loss is best, which are as good, or what it takes to tell; from any tool's table of results."""
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.comparison import ComparisonSettings
    from pipeline.comparison import compare as compare_losses
    from pipeline.records.table import read_table
    from pipeline.system.files import write_text

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}", "is a folder", "name a file, e.g. verdict.json")
    if miss_value is not None and not 0 < miss_value < float("inf"):
        raise ConfigError(f"--miss-value {miss_value:g}", "is not a distance", "give mm, for example 300")
    margins = {"share": margin_dice, "mm": margin_mm}
    names = _names("--metrics", metrics, "dice,hausdorff95_mm")
    of_classes = _names("--classes", classes, "tumor")
    table = read_table(cases)
    levels = None if thresholds is None else _read_thresholds(thresholds)
    settings = ComparisonSettings(
        metrics=names,
        classes=of_classes,
        margins=margins,
        confidence=confidence,
        training_sd=training_sd,
        miss_value=miss_value,
    )
    verdict = compare_losses(table, settings, thresholds=levels)
    if out is not None:
        import json as plain

        write_text(out, plain.dumps(verdict.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    if json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        if out is not None:
            console.print(f"\nVerdict: {out}", highlight=False, markup=False)


def _names(option: str, text: str | None, example: str) -> tuple[str, ...] | None:
    """Return the names of a comma-separated list, None where the option was not given."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(f"{option} {text!r}", "is an empty list", f"give, for example, {example}")
    return names


def _read_thresholds(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(path, dtype={"loss": str, "case": str, "class": str})
    except (OSError, ValueError) as error:
        raise RecordError(path, f"cannot be read as CSV ({error})", "give the columns of thresholds.csv") from error
