"""The location of a study relative to the input folder, without the parts of the path that name its patient."""

import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

HIDDEN = "*"
"""Replacement of a part of a path that names the patient; as a shell pattern it still matches the folder."""


def study_location(files: Sequence[Path], root: Path, words: Collection[str]) -> str:
    """Return the folder that holds all files, or the path of a single file, relative to `root`.

    Parameters
    ----------
    files
        Files of the study.
    root
        The input folder.
    words
        Words that name patients, in lower case. A folder or file name that contains one of them becomes ``*``.

    Examples
    --------
    >>> study_location([Path("in/Doe Jane/1.2.840/1.dcm"), Path("in/Doe Jane/1.2.840/2.dcm")], Path("in"), {"jane"})
    '*/1.2.840'
    """
    if not files:
        return ""
    common = files[0] if len(files) == 1 else Path(os.path.commonpath([path.parent for path in files]))
    # The paths of a DICOMDIR have their symbolic links resolved.
    base = next((base for base in (root, root.resolve()) if common.is_relative_to(base)), common.parent)
    parts = common.relative_to(base).parts
    return "/".join(HIDDEN if _names_a_patient(part, words) else _printable(part) for part in parts) or "."


def _names_a_patient(part: str, words: Collection[str]) -> bool:
    spellings = {_folded(part)}
    spellings |= {re.sub(r"[\W_]+", "", spelling) for spelling in spellings}
    return any(_folded(word) in spelling for word in words for spelling in spellings)


def _folded(text: str) -> str:
    """Return a text in lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _printable(part: str) -> str:
    readable = os.fsencode(part).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in readable)
