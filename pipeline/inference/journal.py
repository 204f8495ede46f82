"""The journal of an output folder, by which a stopped batch continues: a kill at any time costs at most one case."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pipeline.inference.case_record import CaseRecord
from pipeline.system.files import sha256_of_file
from pipeline.system.json_lines import append_json_line, read_json_lines
from pipeline.system.json_values import to_json_object


class RecordedCases:
    """The latest record of each case of an output folder, in memory.

    Parameters
    ----------
    root
        The output folder; paths in the records are relative to it.
    records
        Records in the order in which they were made; a later record of a case replaces an earlier one.
    """

    def __init__(self, root: Path, records: Iterable[CaseRecord] = ()) -> None:
        self.root = root
        self.records: dict[str, CaseRecord] = {record.case: record for record in records}

    def intact(self, case: str, sha256_input: str, settings: str) -> CaseRecord | None:
        """Return the record of a case whose result is still valid, else None: the case must be predicted (again).

        A result is valid if it was predicted from the same input with the same settings, and if all its files exist
        with their hashes. The status of a completed case becomes ``skipped``; ``held`` stays.
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


class Journal(RecordedCases):
    """The append-only file ``journal.jsonl`` of an output folder; the last line of a case counts.

    Parameters
    ----------
    root
        The output folder.
    repair
        Remove a last line that a kill cut short. Give False where another process may be writing.
    """

    def __init__(self, root: Path, *, repair: bool = True) -> None:
        self.path = root / "journal.jsonl"
        if repair:
            _remove_torn_line(self.path)
        super().__init__(root, map(_record_from_event, read_json_lines(self.path)))

    def add(self, record: CaseRecord) -> None:
        """Append a record and fsync it; a record that adds nothing is stored in memory only."""
        is_known = record.status in ("skipped", "not_started") or record == self.records.get(record.case)
        self.records[record.case] = record
        if not is_known:
            append_json_line(self.path, to_json_object(record))


def _record_from_event(event: Mapping[str, Any]) -> CaseRecord:
    known = {item.name for item in fields(CaseRecord)}
    values = {name: value for name, value in event.items() if name in known}
    for name in ("warnings", "notes"):
        values[name] = tuple(values.get(name, ()))
    return CaseRecord(**values)


def _remove_torn_line(path: Path) -> None:
    """Remove a last line without its newline, so that the next record starts on its own line."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
