"""`whichloss track`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from pipeline.tracking.mirror import MirrorResult

LOWEST_PRIORITY = 19


def track(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    follow: Annotated[bool, typer.Option("--follow", help="Continue until the study is complete.")] = False,
    uri: Annotated[
        str | None,
        typer.Option(help="Address of MLflow; default: MLFLOW_TRACKING_URI, else a database inside the study."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    until_stopped: Annotated[bool, typer.Option("--until-stopped", hidden=True)] = False,
) -> None:
    """Log to MLflow what it lacks of the records of a study; nothing is logged twice."""
    from pipeline.records.folder import StudyFolder
    from pipeline.records.study import read_study

    folder = StudyFolder(study)
    read_study(folder)
    from pipeline.system.operating_system import lower_priority

    # Only now: MLflow takes seconds to import.
    from pipeline.tracking.mirror import follow_study, mirror_study

    if follow:
        lower_priority(LOWEST_PRIORITY)
        on_sync = (lambda result: None) if json else _print_result
        result = follow_study(folder, uri, on_sync=on_sync, until_stopped=until_stopped)
    else:
        result = mirror_study(folder, uri)
    if json:
        print_json(result.to_json())
    elif result.reached:
        _print_result(result)
        console.print(f"MLflow: {result.uri}", highlight=False, markup=False)
    if not result.reached:
        err.print(result.warning(folder) or "", highlight=False, markup=False)
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _print_result(result: "MirrorResult") -> None:
    if result.reached:
        text = f"{len(result.runs)} runs in MLflow; {result.created_runs} new, {result.logged_points} points logged"
    else:
        text = f"MLflow not reached: {result.problem}"
    err.print(text, highlight=False, markup=False)
