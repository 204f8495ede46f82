"""``manifest.json`` and ``manifest.csv``: the state of every case of an output folder."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.inference.journal import CaseRecord
from pipeline.system.files import write_json, write_text

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_PACKAGES = ("torch", "monai", "nibabel", "numpy", "highdicom", "pydicom")
_COLUMNS = (
    "case", "status", "reason", "input", "output", "sha256_input", "sha256_output", "warnings", "seconds", "finished",
    "place", "study_uid",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def model_facts(model: "Model") -> dict[str, Any]:
    """Return what the manifest says of the model."""
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "channels": list(model.channels),
        "classes": {str(value): name for value, name in model.classes.items()},
    }


def versions() -> dict[str, str]:
    """Return the versions of this program and of what computes and writes."""
    found = {"segloss": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_manifest(
    root: Path,
    records: Sequence[CaseRecord],
    model: Mapping[str, Any],
    options: Mapping[str, Any],
    started: str,
    finished: str | None,
) -> dict[str, Any]:
    """Write both files, each whole or not at all, and return the content of the JSON.

    `finished` is None while the batch runs.
    """
    counts = {"done": 0, "held": 0, "failed": 0, "skipped": 0} | Counter(record.status for record in records)
    content = {
        "schema": 1,
        "model": dict(model),
        "versions": versions(),
        "options": dict(options),
        "started": started,
        "finished": finished,
        "counts": counts,
        "cases": [case_json(record) for record in records],
    }
    write_json(root / "manifest.json", content)
    write_text(root / "manifest.csv", csv_of(records, model["classes"].values()))
    return content


def case_json(record: CaseRecord) -> dict[str, Any]:
    """Return one case as it stands in manifest.json."""
    return {
        "case": record.case,
        "input": record.input,
        "output": record.output or None,
        "status": record.status,
        "reason": record.reason or None,
        "remedy": record.remedy or None,
        "sha256_input": record.sha256_input or None,
        "sha256_output": record.sha256_output or None,
        "volumes_ml": dict(record.volumes_ml),
        "warnings": list(record.warnings),
        "notes": list(record.notes),
        "released": record.released,
        "place": record.place or None,
        "study_uid": record.study_uid or None,
        "seconds": record.seconds,
        "finished": record.finished or None,
        "files": dict(record.files),
    }


def csv_of(records: Iterable[CaseRecord], classes: Iterable[str]) -> str:
    """Return the cases as CSV, a column in mL for each class.

    A cell that a spreadsheet would run as a formula starts with an apostrophe.
    """
    names = list(classes)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_plain, [*_COLUMNS, *(f"{name} (mL)" for name in names)]))
    for record in records:
        row: list[object] = [
            record.case, record.status, record.reason, record.input, record.output, record.sha256_input,
            record.sha256_output, "; ".join(record.warnings), record.seconds, record.finished, record.place,
            record.study_uid,
        ]  # fmt: skip
        row += [record.volumes_ml.get(name, "") for name in names]
        writer.writerow(map(_plain, row))
    return stream.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
