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
        Path,
        typer.Argument(
            help="CSV with the columns loss, case, metric, value (and optionally fold, seed, class, patient, state)."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Write the complete verdict to this JSON file.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to compare, for example dice,nsd. The first one decides.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes to compare, for example tumor. Default: all classes.")
    ] = None,
    margin_dice: Annotated[
        float, typer.Option(help="Difference in Dice and other shares that does not matter.")
    ] = 0.005,
    margin_mm: Annotated[float, typer.Option(help="Difference in mm that does not matter.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals and of the verdict.")] = 0.95,
    training_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the deciding metric's mean between two trainings of one loss, e.g. 0.005. "
            "Needed only for tables with a single training of each loss."
        ),
    ] = None,
    miss_value: Annotated[
        float | None,
        typer.Option(help="Value in mm of a missing distance, for example the diagonal of the image."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns loss, fold, seed, case, class, threshold, dice. It separates effects of losses "
            "from those of thresholds."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Report the best loss, equivalent losses, or the study that would decide, from any tool's table of results."""
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.comparison import ComparisonSettings
    from pipeline.comparison import compare as compare_losses
    from pipeline.records.table import read_table
    from pipeline.system.files import write_text

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}", "is a folder", "give a file, for example verdict.json")
    if miss_value is not None and not 0 < miss_value < float("inf"):
        raise ConfigError(
            f"--miss-value {miss_value:g}", "must be a finite distance in mm above 0", "give 300, for example"
        )
    margins = {"share": margin_dice, "mm": margin_mm}
    names = _names("--metrics", metrics, "dice,hausdorff95_mm")
    class_names = _names("--classes", classes, "tumor")
    table = read_table(cases)
    dice_by_threshold = None if thresholds is None else _read_thresholds(thresholds)
    settings = ComparisonSettings(
        metrics=names,
        classes=class_names,
        margins=margins,
        confidence=confidence,
        training_sd=training_sd,
        miss_value=miss_value,
    )
    verdict = compare_losses(table, settings, thresholds=dice_by_threshold)
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
    """Return the names of a comma-separated list; None if the option was not given."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(f"{option} {text!r}", "is an empty list", f"give {example}, for example")
    return names


def _read_thresholds(path: Path) -> "pd.DataFrame":
    """Return the table of thresholds.

    Raises
    ------
    RecordError
        If the file cannot be read as CSV.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, dtype={"loss": str, "case": str, "class": str})
    except (OSError, ValueError) as error:
        raise RecordError(path, f"cannot be read as CSV ({error})", "give the columns of thresholds.csv") from error
