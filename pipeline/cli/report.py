"""`segloss report`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import out, print_json


def report(
    study: Annotated[Path, typer.Argument(help="The --out folder of a study, finished or not.")],
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Write table, verdict and report again, from the records of a study alone."""
    from pipeline.records.folder import StudyFolder

    folder = StudyFolder(study)
    folder.read_settings()
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.report.build import build_report

    verdict = build_report(folder)
    if json:
        print_json(verdict.to_json())
        return
    print_verdict(verdict, out)
    out.print(f"\nReport:  {folder.report}", highlight=False, markup=False)
