"""`whichloss ui`."""

import signal
import sys
import webbrowser
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console

if TYPE_CHECKING:
    from pipeline.tracking.mirror import MirrorResult


def ui(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; default: the first free one from 5000.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON.")] = False,
) -> None:
    """Open MLflow on 127.0.0.1 with validation Dice and Hausdorff distance of each loss, over steps and in a table."""
    from pipeline.records.folder import StudyFolder
    from pipeline.records.study import read_study

    folder = StudyFolder(study)
    read_study(folder)
    # Only now: MLflow takes seconds to import.
    from pipeline.tracking.mirror import artifact_location, mirror_for_reading, tracking_uri
    from pipeline.tracking.saved_view import START_PATH
    from pipeline.tracking.server import LocalServer, choose_port

    uri = tracking_uri(folder)
    if uri.startswith(("http://", "https://")):
        _show(uri.rstrip("/"), "/", mirror_for_reading(folder), browser, json)
        return
    port = choose_port(port)
    result = mirror_for_reading(folder)
    signal.signal(signal.SIGTERM, _interrupt)  # The server must end with this process, however it is stopped.
    err.print("starting MLflow …")
    try:
        with LocalServer(uri, artifact_location(folder), port, study / ".mirror" / "server.log") as server:
            _show(server.address, START_PATH, result, browser, json)
            err.print("press Ctrl-C to end it")
            server.wait()
    except KeyboardInterrupt:
        err.print("MLflow has ended")


def _show(address: str, start: str, result: "MirrorResult", browser: bool, json: bool) -> None:
    from pipeline.tracking.run_names import SUMMARY_PREFIX
    from pipeline.tracking.saved_view import compare_page, runs_page

    assert result.experiment_id is not None
    assert result.study_id is not None
    runs = runs_page(address + start, result.experiment_id, result.study_id)
    summaries = [run_id for key, run_id in result.runs.items() if key.startswith(SUMMARY_PREFIX)]
    compare = compare_page(address + start, result.experiment_id, summaries)
    if json:
        print_json({"address": address, "runs_page": runs, "compare_page": compare})
    else:
        console.print(f"losses:  {runs}\ncompare: {compare}", highlight=False, markup=False)
    sys.stdout.flush()
    if browser:
        webbrowser.open(runs)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
