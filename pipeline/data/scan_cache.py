"""Cache of the results of `check_case` by the content of the files.

With a cached result, the next start of a command reads and hashes the files of a case but does not measure them.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.data.dataset import Case
from pipeline.data.integrity import CaseResult, check_case
from pipeline.system.files import sha256_of_files, write_text

FORMAT = 2
"""Version of the cache. It must be raised when a check, a message or a measurement changes."""

_RESULT = TypeAdapter(CaseResult)


def check_case_cached(case: Case, max_bytes: int, cache_folder: Path) -> CaseResult:
    """Return the result of `check_case`, from the cache if it holds one for the same files.

    Only results without an error are cached. A cached result that cannot be read, or belongs to other files, is
    computed again. The result of files that change while they are read is not cached.

    Parameters
    ----------
    case
        The case.
    max_bytes
        Largest size of an uncompressed file.
    cache_folder
        Folder of the cache, with one JSON file per case.
    """
    content = content_hash(case)
    if content is None:
        return check_case(case, max_bytes)
    # Names are part of the key, since problems contain them.
    names = [str(path) for path in (*case.images, case.label)]
    if not case.annotation.is_complete:
        names.append(repr(case.annotation))
    key = hashlib.sha256("\n".join([str(FORMAT), str(max_bytes), case.id, content, *names]).encode()).hexdigest()
    path = cache_folder / f"{key[:32]}.json"
    try:
        cached = _RESULT.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        cached = None
    if cached is not None and cached.scan is not None and cached.scan.content_hash == content:
        # Patient and fold are not part of the key.
        return replace(cached, case=case)
    result = check_case(case, max_bytes)
    if result.scan is not None and result.scan.content_hash == content:
        write_text(path, _RESULT.dump_json(result).decode())
    return result


def content_hash(case: Case) -> str | None:
    """Return the SHA-256 over the bytes of the image files, then the label file; None if a file cannot be read."""
    try:
        return sha256_of_files(case.files)
    except OSError:
        return None
