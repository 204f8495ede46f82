"""``manifest.json`` and ``manifest.csv``: the state of every case of an output folder."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.inference.case_record import CaseRecord
from pipeline.inference.options import Options, uses_tta
from pipeline.system.files import write_json, write_text
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_PACKAGES = ("torch", "monai", "nibabel", "numpy", "highdicom", "pydicom")
_COLUMNS = (
    "case", "status", "reason", "input", "output", "sha256_input", "sha256_output", "warnings", "seconds", "finished",
    "place", "study_uid",
)  # fmt: skip
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model as the manifest describes it; `classes` holds the names by label value."""

    name: str
    version: str
    sha256: str
    channels: tuple[str, ...]
    classes: Mapping[int, str]

    @classmethod
    def of(cls, model: "Model") -> "ModelFacts":
        """Return the facts of a loaded bundle."""
        return cls(model.name, model.version, model.sha256, tuple(model.channels), dict(model.classes))

    def as_json(self) -> dict[str, object]:
        """Return the object ``model`` of manifest.json."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "channels": list(self.channels),
            "classes": {str(value): name for value, name in self.classes.items()},
        }


@dataclass(frozen=True, slots=True)
class OptionFacts:
    """The options of the batch as the manifest lists them: the fields, in this order, are the keys of ``options``."""

    precision: str
    tta: bool
    probabilities: bool
    empty_frames: bool
    release_warned: bool
    strict: bool

    @classmethod
    def of(cls, model: "Model", options: Options) -> "OptionFacts":
        """Return the options that apply to a model."""
        return cls(
            precision=options.precision,
            tta=uses_tta(model, options),
            probabilities=options.probabilities,
            empty_frames=options.empty_frames,
            release_warned=options.release.release_warned,
            strict=options.release.strict,
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an output folder.

    Parameters
    ----------
    model
        The model of the batch.
    options
        The options of the batch.
    records
        All cases, in the order in which they are listed.
    started
        Start of the batch in UTC, ISO 8601.
    finished
        End of the batch; None while it runs, and if it was stopped.
    """

    model: ModelFacts
    options: OptionFacts
    records: tuple[CaseRecord, ...]
    started: str
    finished: str | None

    @property
    def counts(self) -> dict[str, int]:
        """The number of cases by status; ``not_started`` is listed only if there are any."""
        counts = dict.fromkeys(("done", "held", "failed", "skipped"), 0)
        return counts | Counter(str(record.status) for record in self.records)

    def as_json(self) -> dict[str, object]:
        """Return the content of manifest.json."""
        return {
            "schema": 1,
            "model": self.model.as_json(),
            "versions": package_versions(),
            "options": asdict(self.options),
            "started": self.started,
            "finished": self.finished,
            "counts": self.counts,
            "cases": [case_json(record) for record in self.records],
        }

    def as_csv(self) -> str:
        """Return the content of manifest.csv: one row for each case, with a column in mL for each class.

        An apostrophe is put before the text of a cell that a spreadsheet would execute as a formula.
        """
        names = list(self.model.classes.values())
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(_without_formula, [*_COLUMNS, *(f"{name} (mL)" for name in names)]))
        for record in self.records:
            row: list[object] = [
                record.case, record.status, record.reason, record.input, record.output, record.sha256_input,
                record.sha256_output, "; ".join(record.warnings), record.seconds, record.finished, record.place,
                record.study_uid,
            ]  # fmt: skip
            row += [record.volumes_ml.get(name, "") for name in names]
            writer.writerow(map(_without_formula, row))
        return stream.getvalue()


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` and ``manifest.csv`` into a folder, each one atomically.

    Raises
    ------
    OSError
        Where the folder cannot be written.
    """
    write_json(root / "manifest.json", manifest.as_json())
    write_text(root / "manifest.csv", manifest.as_csv())


def package_versions() -> dict[str, str]:
    """Return the versions of this program and of the installed packages that compute and write results."""
    versions = {"segloss": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def case_json(record: CaseRecord) -> dict[str, object]:
    """Return the entry of one case in manifest.json; an empty text becomes null."""
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


def _without_formula(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell
