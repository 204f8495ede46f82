"""`whichloss compare`."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json, progress_bar
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, RecordError

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import ComparisonSettings
    from pipeline.records.verdict import Verdict
    from pipeline.report.results import ResultsRequest


def compare(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="CSV with the columns loss, case, metric, value (and optionally fold, seed, class, patient, state), "
            "or results folders of nnU-Net v2 and folders of studies.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the complete verdict; for folders, a folder for records, verdict and report."),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="Folders: arms to compare, with new names if wanted, e.g. nnUNetTrainer=default,nnUNetTrainerCE."
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Folders: compare arms of different splits on their common cases.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Folders: leave out trainings and arms that cannot be used.")
    ] = False,
    predictions: Annotated[
        list[str] | None, typer.Option(help="LOSS=FOLDER of predicted masks, once for each loss; any tool's.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="Folder of reference masks; for nnU-Net, it adds surface metrics.")
    ] = None,
    folds: Annotated[Path | None, typer.Option(help="splits_final.json of the trainings behind --predictions.")] = None,
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
    """Report the best loss, equivalent losses, or the study that would decide, from trainings of any tool."""
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.comparison import ComparisonSettings
    from pipeline.records.recipes import RecipesFolder
    from pipeline.system.files import write_json

    if miss_value is not None and not 0 < miss_value < float("inf"):
        raise ConfigError(
            f"--miss-value {miss_value:g}", "must be a finite distance in mm above 0", "give 300, for example"
        )
    settings = ComparisonSettings(
        metrics=_names("--metrics", metrics, "dice,hausdorff95_mm"),
        classes=_names("--classes", classes, "tumor"),
        margins={"share": margin_dice, "mm": margin_mm},
        confidence=confidence,
        training_sd=training_sd,
        miss_value=miss_value,
    )
    paths = results or []
    if len(paths) == 1 and RecipesFolder(paths[0]).settings.exists():
        options = (out, arms, references, predictions, folds, thresholds, metrics, classes, training_sd, miss_value)
        _compare_recipes(paths[0], plain=not any(options) and not unpaired, as_json=json)
        return
    of_results = bool(paths) and all(path.is_dir() for path in paths)
    if of_results:
        from pipeline.report.results import ResultsRequest

        request = ResultsRequest(tuple(paths), arms, unpaired, skip_bad, references)
        verdict = _compare_results(request, out, settings)
    else:
        if out is not None and out.is_dir():
            raise ConfigError(f"--out {out}", "is a folder", "give a file, for example verdict.json")
        if predictions:
            verdict = _compare_predictions(predictions, references, folds, settings)
        else:
            verdict = _compare_table(paths, thresholds, settings)
        if out is not None:
            write_json(out, verdict.to_json())
    if json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        if out is not None:
            written = f"Report: {out / 'report.html'}" if of_results else f"Verdict: {out}"
            console.print(f"\n{written}", highlight=False, markup=False)


def _compare_recipes(path: Path, *, plain: bool, as_json: bool) -> None:
    """Print the combined verdict of a folder of studies with several recipes.

    Raises
    ------
    ConfigError
        If options other than --json are given.
    """
    from pipeline.cli.recipes import print_recipes
    from pipeline.records.recipes import RecipesFolder
    from pipeline.report.recipes import combine

    if not plain:
        raise ConfigError(
            path, "holds studies of several recipes, which are compared as they are", "use no option but --json"
        )
    verdict = combine(RecipesFolder(path))
    if as_json:
        print_json(verdict.to_json())
    else:
        print_recipes(verdict, console)


def _compare_table(paths: list[Path], thresholds: Path | None, settings: "ComparisonSettings") -> "Verdict":
    """Return the verdict on one table of results."""
    from pipeline.comparison import compare as compare_losses
    from pipeline.records.table import read_table

    if len(paths) != 1:
        raise ConfigError(
            f"{len(paths)} files", "are not one table", "give one CSV, results folders of nnU-Net, or --predictions"
        )
    dice_by_threshold = None if thresholds is None else _read_thresholds(thresholds)
    return compare_losses(read_table(paths[0]), settings, thresholds=dice_by_threshold)


def _compare_results(request: "ResultsRequest", out: Path | None, settings: "ComparisonSettings") -> "Verdict":
    """Return the verdict on results of nnU-Net and studies, after a table of what was found on stderr."""
    from pipeline.cli.results_table import results_table, sources_in_words
    from pipeline.report.results import ResultsProgress, compare_results

    with tempfile.TemporaryDirectory() as temporary, progress_bar() as bar:
        folds = bar.add_task("reading folds", total=None)
        cases = bar.add_task("measuring masks", total=None, visible=False)
        progress = ResultsProgress(
            on_fold=lambda done, total: bar.update(folds, completed=done, total=total),
            on_case=lambda done, total: bar.update(cases, completed=done, total=total, visible=True),
        )
        verdict, found = compare_results(
            request,
            out or Path(temporary) / "study",
            settings,
            command=" ".join(["whichloss", *sys.argv[1:]]),
            progress=progress,
        )
    err.print(results_table(found))
    left_out = [f"left out: {gap.name}: {gap.error}" for gap in found.gaps]
    for line in (*sources_in_words(found), *left_out):
        err.print(line, highlight=False, markup=False, soft_wrap=True)
    return verdict


def _compare_predictions(
    predictions: list[str], references: Path | None, folds: Path | None, settings: "ComparisonSettings"
) -> "Verdict":
    """Return the verdict on folders of masks."""
    from pipeline.comparison.folders import compare_folders
    from pipeline.data.layouts.splits import read_splits

    if references is None:
        raise ConfigError("--predictions", "need references to be evaluated", "give --references FOLDER")
    folders: dict[str, Path] = {}
    for text in predictions:
        loss, equals, folder = text.partition("=")
        if not (loss and equals and folder) or loss in folders:
            raise ConfigError(
                f"--predictions {text}", "must be LOSS=FOLDER, with each loss once", "give e.g. ce=masks_ce"
            )
        folders[loss] = Path(folder)
    return compare_folders(references, folders, settings, folds=None if folds is None else read_splits(folds))


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
