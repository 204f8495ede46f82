"""What a check of a case found, kept by the content of its files, so that the next start reads and hashes only."""

import hashlib
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.data.dataset import Case
from pipeline.data.integrity import CaseResult, check_case
from pipeline.system.files import sha256_of_files, write_text

FORMAT = 1
"""Raised whenever a check or a measurement changes, since what is kept is then of another kind."""

_RESULT = TypeAdapter(CaseResult)


def remembered_check(case: Case, max_bytes: int, folder: Path) -> CaseResult:
    """Return what `check_case` returns, from `folder` where these very files were found sound before.

    Kept are results of cases without an error, under a hash of the files' bytes and names; whatever cannot be read or
    does not belong to the files is measured anew. A file that changes while it is read is never kept.
    """
    content = content_hash(case)
    if content is None:
        return check_case(case, max_bytes)
    names = [str(path) for path in (*case.images, case.label)]
    key = hashlib.sha256("\n".join([str(FORMAT), str(max_bytes), case.id, content, *names]).encode()).hexdigest()
    path = folder / f"{key[:32]}.json"
    try:
        kept = _RESULT.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        kept = None
    if kept is not None and kept.scan is not None and kept.scan.content_hash == content:
        return replace(kept, case=case)
    result = check_case(case, max_bytes)
    if result.scan is not None and result.scan.content_hash == content:
        write_text(path, _RESULT.dump_json(result).decode())
    return result


def content_hash(case: Case) -> str | None:
    """Return the SHA-256 over the bytes of the image files, then the label file; None where one cannot be read."""
    try:
        return sha256_of_files(case.files)
    except OSError:
        return None
