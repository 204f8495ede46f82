"""`whichloss report`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import out, print_json


def report(
    study: Annotated[Path, typer.Argument(help="The --out folder of a study, or of several recipes, finished or not.")],
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Write table, verdict and report of a study again, from its records alone."""
    from pipeline.records.folder import StudyFolder
    from pipeline.records.recipes import RecipesFolder
    from pipeline.records.study import read_study

    if RecipesFolder(study).settings.exists():
        from pipeline.cli.recipes import report_recipes

        report_recipes(study, as_json=json)
        return
    folder = StudyFolder(study)
    read_study(folder)
    # Only now: these import pandas and scipy, which takes a second.
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.report.build import build_report

    verdict = build_report(folder)
    if json:
        print_json(verdict.to_json())
        return
    print_verdict(verdict, out)
    out.print(f"\nReport:  {folder.report}", highlight=False, markup=False)
