"""Reading of one DICOM file by pydicom, with or without a preamble, and the errors that mean that it is damaged."""

import struct
from collections.abc import Collection
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.inference.dicom.identity import is_valid_uid
from pipeline.inference.signature import signature

DAMAGED = (
    InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError, TypeError, AttributeError, LookupError,
    ArithmeticError, RuntimeError, struct.error,
)  # fmt: skip
"""Errors that pydicom raised for damaged files in fuzzing; an unknown value representation is a RuntimeError."""

_SERIES_INSTANCE_UID = Tag("SeriesInstanceUID")


def read_file(path: Path, *, with_pixels: bool, tags: Collection[str] | None = None) -> Dataset:
    """Return the content of a file. One without a preamble gets the transfer syntax that its first bytes show.

    Parameters
    ----------
    path
        The file.
    with_pixels
        Read the pixels too.
    tags
        Keywords to read; None: all.

    Raises
    ------
    Exception
        One of `DAMAGED`.
    """
    dataset = pydicom.dcmread(
        path,
        stop_before_pixels=not with_pixels,
        force=signature(path) == "bare",
        specific_tags=sorted(tags) if tags is not None else None,
    )
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset


def should_have_pixels(header: Dataset) -> bool:
    """Return whether the SOP class is that of an image; a header without rows is damaged then."""
    return "Image Storage" in UID(str(header.get("SOPClassUID") or "")).name


def study_uid_of_damaged(path: Path) -> str:
    """Return the valid StudyInstanceUID of a file whose header is damaged after it; empty if it cannot be read."""

    def is_after(tag: BaseTag, _: str | None, __: int) -> bool:
        return tag >= _SERIES_INSTANCE_UID

    try:
        with path.open("rb") as stream:
            header = read_partial(stream, is_after, force=True)
        study_uid = str(header.get("StudyInstanceUID") or "")
    except DAMAGED:
        return ""
    return study_uid if is_valid_uid(study_uid) else ""
