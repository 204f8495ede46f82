"""Ids of cases: derived from file names, safe as file names, and unique."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DatasetError

_LONGEST = 120
"""Longest id in characters; file systems allow 255 bytes, of which outputs need some for their suffix."""

_NUMBERED = re.compile(r"(.*[^/])_(\d{4})", re.DOTALL)
"""A name with nnU-Net's channel number."""


def stem(path: Path) -> str:
    """Return the name of a file without ``.nii``, ``.nii.gz`` or another suffix.

    Examples
    --------
    >>> stem(Path("a.b.nii.gz")), stem(Path("scan.mha"))
    ('a.b', 'scan')
    """
    lower = path.name.lower()
    for suffix in (".nii.gz", ".nii"):
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_nifti(path: Path) -> bool:
    """Return whether a file has the name of a NIfTI volume and is not hidden, as ``._a.nii.gz`` of macOS is."""
    return not path.name.startswith(".") and path.name.lower().endswith((".nii", ".nii.gz"))


def without_channel_numbers(names: Sequence[str]) -> list[str]:
    """Return the names of single-channel images without nnU-Net's number ``_0000`` of the first channel.

    The number is part of the name if it counts cases (``scan_0000``, ``scan_0001``), or if the name without it is used.

    Examples
    --------
    >>> without_channel_numbers(["liver_0000", "scan_0000", "scan_0001"])
    ['liver', 'scan_0000', 'scan_0001']
    """
    matches = [_NUMBERED.fullmatch(name) for name in names]
    taken = {match[1] for match in matches if match and match[2] != "0000"}.union(names)
    return [match[1] if match and match[1] not in taken else name for name, match in zip(names, matches, strict=True)]


def case_ids(names: Sequence[str], source: Path) -> tuple[str, ...]:
    """Return a unique id for each name, with the characters ``A-Z a-z 0-9 _ . -`` only.

    Names that would get the same id, apart from upper and lower case, get a digest of the whole name if they had to be
    changed.

    Parameters
    ----------
    names
        Names of the cases.
    source
        File or folder that lists the cases, for the error message.

    Raises
    ------
    DatasetError
        A name occurs twice or is empty.

    Examples
    --------
    >>> case_ids(["Müller 1", "b"], Path("list.csv"))
    ('Muller_1', 'b')
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise DatasetError(source, f"has {times} cases with the id {name!r}", "give each case its own id")
        if not name.strip():
            raise DatasetError(source, "has a case without an id", "give each case its own id")
    safe_names = [_as_file_name(name) for name in names]
    taken = Counter(safe.lower() for safe in safe_names)
    unchanged = Counter(safe.lower() for name, safe in zip(names, safe_names, strict=True) if safe == name)
    return tuple(
        safe
        if taken[safe.lower()] == 1 or (safe == name and unchanged[safe.lower()] == 1)
        else f"{safe}-{_digest(name)}"
        for name, safe in zip(names, safe_names, strict=True)
    )


def _as_file_name(name: str) -> str:
    # NFKD separates letters from their accents, which are then dropped: "ü" becomes "u".
    decomposed = unicodedata.normalize("NFKD", name)
    ascii_name = "".join(character for character in decomposed if not unicodedata.combining(character))
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", ascii_name)
    # A name that begins with "." is hidden, and one with "-" is taken for an option of a command.
    if safe[0] in ".-":
        safe = f"_{safe[1:]}"
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}-{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
