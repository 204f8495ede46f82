"""Records without names of cases, patients and paths, which must not leave the study."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.records.study import StudyRecord

UNKNOWN = "unknown"
"""Pseudonym of a case that the study does not list."""


def pseudonyms(cases: Iterable[str], content_hashes: Mapping[str, str | None], salt: str) -> dict[str, str]:
    """Return twelve hexadecimal digits for each case.

    They are derived from the hash of the files of the case, so that a case has the same pseudonym in all studies and
    nobody without the data can guess it. A case without a hash gets one from its id and a salt.

    Parameters
    ----------
    cases
        Ids of the cases.
    content_hashes
        Hash of the files of each case.
    salt
        Id of the study.
    """
    return {
        case: hashlib.sha256((content_hashes.get(case) or f"{salt}/{case}").encode()).hexdigest()[:12] for case in cases
    }


def anonymized_settings(record: StudyRecord) -> dict[str, Any]:
    """Return the JSON values of a record without cases, patients, paths and the command line that holds them."""
    content = record.to_json()
    public = {key: value for key, value in content.items() if key not in ("cases", "command", "request", "runs")}
    public["dataset"] = {key: value for key, value in content.get("dataset", {}).items() if key != "path"}
    public["request"] = {key: value for key, value in content.get("request", {}).items() if key != "dataset"}
    return public
