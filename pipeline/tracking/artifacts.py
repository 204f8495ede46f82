"""Files that MLflow gets beside the metrics: settings, tables and pictures, without names of cases or paths."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.records.run import RunRecord, RunTrace
from pipeline.records.table import read_table, write_table
from pipeline.report.run_pictures import write_curves, write_overlays
from pipeline.tracking.pseudonyms import UNKNOWN, anonymized_settings
from pipeline.tracking.study_records import StudyRecords


def write_study_artifacts(records: StudyRecords, folder: Path) -> None:
    """Write settings, table, verdict and report of a study into a folder."""
    study = records.folder
    _write_json(folder / "config.json", anonymized_settings(records.settings))
    if study.cases.exists():
        _write_table(study.cases, records.pseudonyms, folder)
    for path in (study.verdict, study.report):
        if path.exists():
            shutil.copyfile(path, folder / path.name)


def write_run_artifacts(records: StudyRecords, trace: RunTrace, record: RunRecord, folder: Path) -> None:
    """Write settings, record, table, curves, overlays and weights of a finished run into a folder."""
    run = trace.folder
    aliases = tuple(records.pseudonyms.get(case, UNKNOWN) for case in record.cases)
    _write_json(folder / "run.json", record.model_copy(update={"cases": aliases}).to_json())
    _write_json(folder / "config.json", anonymized_settings(records.settings))
    _write_table(run.cases, records.pseudonyms, folder)
    write_curves(trace.key.short_name, trace.events, folder / "curves.svg")
    if run.checkpoint.exists():
        # MLflow follows the link when it copies the file, so that the weights are not written twice.
        (folder / run.checkpoint.name).symlink_to(run.checkpoint.resolve())
    write_overlays(run, records.settings.cases, folder / "overlays")


def _write_table(path: Path, pseudonyms: Mapping[str, str], folder: Path) -> None:
    table = read_table(path)
    table["case"] = table["case"].map(lambda case: pseudonyms.get(case, UNKNOWN))
    write_table(folder / path.name, table)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
