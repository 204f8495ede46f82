"""Names of cases: from file names, safe as file names, never two alike."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DatasetError

_LONGEST = 120
_NUMBERED = re.compile(r"(.*[^/])_(\d{4})", re.DOTALL)


def stem(path: Path) -> str:
    """Return a file's name without ``.nii``, ``.nii.gz`` or another suffix."""
    lower = path.name.lower()
    for suffix in (".nii.gz", ".nii"):
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_nifti(path: Path) -> bool:
    """Return whether a name is that of a NIfTI volume; hidden files (``._a.nii.gz`` of macOS) are none."""
    return not path.name.startswith(".") and path.name.lower().endswith((".nii", ".nii.gz"))


def without_channel_numbers(names: Sequence[str]) -> list[str]:
    """Return the names of single-channel images without nnU-Net's number ``_0000`` of the first channel.

    The number stays where it counts cases (``scan_0000``, ``scan_0001``), and where the name without it is taken.

    Examples
    --------
    >>> without_channel_numbers(["liver_0000", "scan_0000", "scan_0001"])
    ['liver', 'scan_0000', 'scan_0001']
    """
    matches = [_NUMBERED.fullmatch(name) for name in names]
    kept = {match[1] for match in matches if match and match[2] != "0000"}.union(names)
    return [match[1] if match and match[1] not in kept else name for name, match in zip(names, matches, strict=True)]


def case_ids(names: Sequence[str], source: Path) -> tuple[str, ...]:
    """Return an id for each name that is safe as a file name (``A-Z a-z 0-9 _ . -``) and unique.

    Where names become the same (letter case aside), those that had to be changed carry a digest of the whole name.

    Raises
    ------
    DatasetError
        Naming `source`, when a name occurs twice or is empty.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise DatasetError(source, f"has {times} cases of the id {name!r}", "give every case an id of its own")
        if not name.strip():
            raise DatasetError(source, "has a case without an id", "give every case an id of its own")
    plain = [_plain(name) for name in names]
    taken = Counter(safe.lower() for safe in plain)
    unchanged = Counter(safe.lower() for name, safe in zip(names, plain, strict=True) if safe == name)
    return tuple(
        safe
        if taken[safe.lower()] == 1 or (safe == name and unchanged[safe.lower()] == 1)
        else f"{safe}-{_digest(name)}"
        for name, safe in zip(names, plain, strict=True)
    )


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name)
    ascii_name = "".join(character for character in decomposed if not unicodedata.combining(character))
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", ascii_name)
    if safe[0] in ".-":
        safe = f"_{safe[1:]}"
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}-{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
