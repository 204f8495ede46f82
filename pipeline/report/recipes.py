"""`recipes.csv`, `verdict.json` and `report.html` of a folder of studies, from their records alone."""

from collections.abc import Callable

import pandas as pd

from pipeline.comparison.recipes import RecipeResults, compare_studies, patients_of
from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.recipes import RecipesFolder, RecipesVerdict
from pipeline.records.study import read_study, run_folders
from pipeline.records.table import COLUMNS, write_table
from pipeline.records.verdict import read_verdict
from pipeline.report.build import build_report
from pipeline.report.recipes_page import recipes_page
from pipeline.system.files import write_json, write_text


def rebuild_recipes(folder: RecipesFolder, on_study: Callable[[str], None] = lambda recipe: None) -> RecipesVerdict:
    """Write the report of every study again, then the combined ones, and return the combined verdict.

    Parameters
    ----------
    folder
        Folder of the studies.
    on_study
        Called with the name of each recipe before its report is written.

    Raises
    ------
    RecordError
        If the folder holds no studies, or none of their runs has finished.
    """
    for recipe in folder.read_record().recipes:
        if _has_results(folder.study(recipe)):
            on_study(recipe)
            build_report(folder.study(recipe))
    return build_recipes(folder)


def build_recipes(folder: RecipesFolder) -> RecipesVerdict:
    """Write the combined table, verdict and page from the verdicts of the studies, and return the combined verdict.

    Raises
    ------
    RecordError
        If the folder holds no studies, or none of them has a verdict.
    """
    verdict = combine(folder)
    write_table(folder.table, gather_recipes(folder))
    write_json(folder.verdict, verdict.to_json())
    write_text(folder.report, recipes_page(verdict, folder.read_record()))
    return verdict


def combine(folder: RecipesFolder) -> RecipesVerdict:
    """Return the combined verdict on the studies that have one; nothing is written.

    Raises
    ------
    RecordError
        If the folder holds no studies, or none of them has a verdict.
    """
    results, waiting = [], []
    for recipe in folder.read_record().recipes:
        study = folder.study(recipe)
        verdict = read_verdict(study) if _has_results(study) and study.verdict.exists() else None
        if verdict is None or not verdict.primary:
            waiting.append(recipe)
        else:
            table = patients_of(gather_cases(study), read_study(study).patients)
            results.append(RecipeResults(recipe, table, verdict))
    if not results:
        raise RecordError(
            folder.root,
            f"has no results of its recipes {', '.join(waiting)}",
            "run its `whichloss study` command again, then `whichloss report`",
        )
    return compare_studies(results, waiting)


def gather_recipes(folder: RecipesFolder) -> pd.DataFrame:
    """Return the rows of every finished run of every study, with the recipe in the first column."""
    frames = []
    for recipe in folder.read_record().recipes:
        study = folder.study(recipe)
        if _has_results(study):
            frame = gather_cases(study)
            frame.insert(0, "recipe", recipe)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["recipe", *COLUMNS])


def _has_results(study: StudyFolder) -> bool:
    return study.settings.exists() and any(run.record.exists() for run in run_folders(study))
