"""Recognition of DICOM files by their first bytes, without the import of pydicom or highdicom."""

import struct
from pathlib import Path
from typing import Literal

from pipeline.system.files import open_regular

Signature = Literal["part10", "bare", "named"]
"""Signs by which a file is recognized as DICOM.

``part10``: the preamble and ``DICM`` of PS3.10, 7.1. ``bare``: a data set that starts at the first byte, as older
software stores it. ``named``: only the file name says so, for example because the file was cut to 0 bytes.
"""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_SUFFIXES = {".dcm", ".dicom", ".ima"}
_FIRST_GROUPS = {0x0002, 0x0008}
_LAST_FIRST_ELEMENT = 0x00FF
_LONGEST_FIRST_VALUE = 1024
_VALUE_REPRESENTATIONS = {b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"OB", b"DT", b"AE"}
"""Value representations of the elements that a data set can start with."""


def signature(path: Path) -> Signature | None:
    """Return how a file shows that it is DICOM; None for any other file, and for pipes, devices and folders."""
    if not path.is_file():
        return None
    try:
        with open_regular(path) as stream:
            start = stream.read(_MAGIC_AT + len(_MAGIC))
    except OSError:
        start = b""
    if start[_MAGIC_AT:] == _MAGIC:
        return "part10"
    if _starts_a_data_set(start):
        return "bare"
    return "named" if is_named_dicom(path) else None


def is_named_dicom(path: Path) -> bool:
    """Return whether only DICOM files have such a name; hidden files (``._1.dcm`` of macOS) do not count."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _starts_a_data_set(start: bytes) -> bool:
    """Return whether the first bytes are an element of group 0002 or 0008, in explicit VR or implicit little endian."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in _FIRST_GROUPS or element > _LAST_FIRST_ELEMENT:
            continue
        if start[4:6] in _VALUE_REPRESENTATIONS:
            return True
        if order == "<" and struct.unpack("<I", start[4:8])[0] <= _LONGEST_FIRST_VALUE:
            return True
    return False
