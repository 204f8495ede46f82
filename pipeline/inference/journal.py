"""What has become of each case: an append-only journal, so that a kill at any time costs one case at most."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.system.files import sha256_of_file
from pipeline.system.json_lines import append_json_line, read_json_lines
from pipeline.system.json_values import to_json_object

Status = Literal["done", "held", "failed", "skipped", "not_started"]


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One case of the manifest.

    `output` and the keys of `files` are relative to the output folder; `files` holds the SHA-256 of everything written
    for the case; `settings` is a hash of model and options: another one means that the case is predicted again.
    `skipped` means done by an earlier batch and intact; `held` that it is predicted, but not released for its warnings;
    `not_started` that the batch was stopped before this case.
    `released` is true where a result with warnings was released by `--release-warned`. `place` (relative to the input)
    and `study_uid` say which DICOM study was held or has failed.
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


class Journal:
    """``journal.jsonl`` of an output folder; the last word on a case counts.

    With `mend` a last line that a kill cut short is removed.
    """

    def __init__(self, root: Path, *, mend: bool = True) -> None:
        self.root = root
        self.path = root / "journal.jsonl"
        if mend:
            _drop_torn_line(self.path)
        self.records: dict[str, CaseRecord] = {}
        for event in read_json_lines(self.path):
            record = _from_event(event)
            self.records[record.case] = record

    def add(self, record: CaseRecord) -> None:
        """Write one record through to the disk; a case that is as it was is noted in memory alone."""
        is_known = record.status in ("skipped", "not_started") or record == self.records.get(record.case)
        self.records[record.case] = record
        if not is_known:
            append_json_line(self.path, to_json_object(record))

    def intact(self, case: str, sha256_input: str, settings: str) -> CaseRecord | None:
        """Return the record of a case, as skipped if it was done, or None if it is to be predicted (again).

        It stands if it was predicted from this input by these settings and all its files are there with their hashes.
        """
        record = self.records.get(case)
        if record is None or record.status == "failed":
            return None
        if (record.sha256_input, record.settings) != (sha256_input, settings) or not record.files:
            return None
        for name, digest in record.files.items():
            try:
                if sha256_of_file(self.root / name) != digest:
                    return None
            except OSError:
                return None
        return record if record.status == "held" else replace(record, status="skipped")


def _from_event(event: Mapping[str, Any]) -> CaseRecord:
    known = {item.name for item in fields(CaseRecord)}
    values = {name: value for name, value in event.items() if name in known}
    for name in ("warnings", "notes"):
        values[name] = tuple(values.get(name, ()))
    return CaseRecord(**values)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without its newline, so that the next record starts on a line of its own."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
