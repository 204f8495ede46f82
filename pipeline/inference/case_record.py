"""The outcome of one case, as the manifest lists it and the journal stores it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["done", "held", "failed", "skipped", "not_started"]
"""Outcome of a case.

``done``: predicted and written. ``held``: predicted, but not released because of its warnings. ``failed``: not
predicted. ``skipped``: done by an earlier batch, and all files are intact. ``not_started``: the batch was stopped
before this case.
"""


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """Outcome of one case. Field names are the keys of ``journal.jsonl``.

    Parameters
    ----------
    case
        Identifier of the case; it is part of the names of all its files.
    input
        Paths of the images; for DICOM, whose paths may name the patient, the number of files.
    output
        The main result, relative to the output folder; empty where there is none.
    status
        See `Status`.
    reason, remedy
        Why the case failed or was not started, and what the user can do.
    sha256_input, sha256_output
        Hashes of the input files and of `output`, hexadecimal; empty where there is none.
    volumes_ml
        Volume of each class in mL.
    warnings
        Reasons to hold the result.
    notes
        Oddities that do not prevent the release.
    released
        True where a result with warnings was released by ``--release-warned``.
    place
        Folder of a held or failed DICOM study, relative to the input.
    study_uid
        StudyInstanceUID of a held or failed DICOM study.
    seconds
        Processing time.
    finished
        Time of completion in UTC, ISO 8601.
    settings
        Hash of model and options (see `pipeline.inference.options.settings_hash`). A case whose hash differs is
        predicted again.
    files
        SHA-256 of every file written for the case, by path relative to the output folder.
    """

    case: str
    input: str
    output: str
    status: Status
    reason: str = ""
    remedy: str = ""
    sha256_input: str = ""
    sha256_output: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    released: bool = False
    place: str = ""
    study_uid: str = ""
    seconds: float = 0.0
    finished: str = ""
    settings: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
