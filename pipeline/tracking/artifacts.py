"""Files that go to MLflow beside the numbers: settings, tables and pictures, without names of cases or paths."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.records.folder import RunFolder, StudyFolder
from pipeline.records.table import read_table, write_table
from pipeline.tracking.figures import write_curves
from pipeline.tracking.metric_points import Point
from pipeline.tracking.names import without_names
from pipeline.tracking.pictures import write_overlays


def write_study(study: StudyFolder, settings: Mapping[str, Any], names: Mapping[str, str], into: Path) -> None:
    """Write settings, table, verdict and report of a study into a folder."""
    _write_json(into / "config.json", without_names(settings))
    if study.cases.exists():
        _write_table(study.cases, names, into)
    for path in (study.verdict, study.report):
        if path.exists():
            shutil.copyfile(path, into / path.name)


def write_run(
    folder: RunFolder,
    record: Mapping[str, Any],
    points: Sequence[Point],
    settings: Mapping[str, Any],
    names: Mapping[str, str],
    into: Path,
) -> None:
    """Write configuration, record, table, curves, overlays and weights of a finished run into a folder."""
    aliases = [names.get(case, "unknown") for case in record.get("cases", [])]
    _write_json(into / "run.json", {**record, "cases": aliases})
    _write_json(into / "config.json", without_names(settings))
    _write_table(folder.cases, names, into)
    write_curves(folder.key.short_name, points, into / "curves.png")
    if folder.checkpoint.exists():
        (into / folder.checkpoint.name).symlink_to(folder.checkpoint.resolve())
    values = [int(value) for value in settings["dataset"]["classes"] if int(value)]
    write_overlays(folder, settings.get("cases", {}), values, into / "overlays")


def _write_table(path: Path, names: Mapping[str, str], into: Path) -> None:
    table = read_table(path)
    table["case"] = table["case"].map(lambda case: names.get(case, "unknown"))
    write_table(into / path.name, table)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
