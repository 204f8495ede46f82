"""Reading of NIfTI volumes with all checks.

The gzip stream is read to its end, including its CRC. The header is compared with the length of the stream and with a
budget before memory is allocated, so that a damaged or hostile file cannot exhaust the memory.
"""

import math
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.nifti_header import LONGEST_HEADER, NiftiHeader, format_shape, parse_header
from pipeline.errors import DatasetError
from pipeline.system.files import open_regular

MAX_FILE_BYTES = 2 << 30
"""Default budget for the voxels of one file."""

_GZIP_MAGIC = b"\x1f\x8b"
_WINDOW = 256 << 10
"""Compressed bytes that are decompressed at a time."""

_PADDING = 4096
"""Zero bytes that may follow the voxels, as tapes and some archives leave them."""

_CLAIMS = ((348, ("8h", 40), 72, ("f", 108)), (540, ("8q", 16), 14, ("q", 168)))
"""For NIfTI-1 and NIfTI-2: size of the header; format and offset of the shape; offset of the bits per voxel; format and
offset of the position of the voxels."""

_COPY_AGAIN = "copy or download the file again"


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """A file that was read once.

    Attributes
    ----------
    path, header
        File and its checked header.
    stored
        Bytes of the file on disk.
    voxels
        Stored numbers (N,) in Fortran order, before slope and intercept.
    """

    path: Path
    header: NiftiHeader
    stored: bytes
    voxels: np.ndarray

    def values(self) -> np.ndarray:
        """Return the values with slope and intercept applied, in the shape of the file."""
        return apply_scaling(self.voxels, self.header).reshape(self.header.shape, order="F")


def apply_scaling(voxels: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Return stored numbers of any shape with the slope and intercept of a header applied, as float64.

    Numbers of a header without slope and intercept are returned unchanged.
    """
    if not header.is_scaled:
        return voxels
    return voxels.astype(np.float64) * header.slope + header.intercept


def read_volume(
    path: Path, max_bytes: int = MAX_FILE_BYTES
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Read a volume with all checks of the file and of its header.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.
    max_bytes
        Largest size of the uncompressed file.

    Returns
    -------
    array
        Values (X, Y, Z), or (X, Y, Z, C) for several channels, along the axes as stored, in native byte order; slope
        and intercept applied (float64 then).
    affine
        (4, 4), from voxel indices to mm in R, A, S.
    spacing_mm
        Along the three axes.

    Raises
    ------
    DatasetError
        The file is missing, truncated, corrupt, larger than `max_bytes`, or not a volume with a valid geometry.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import nibabel as nib
    >>> with TemporaryDirectory() as name:
    ...     path = Path(name) / "image.nii.gz"
    ...     nib.save(nib.Nifti1Image(np.ones((7, 6, 5), np.int16), np.diag([1.0, 2.0, 3.0, 1.0])), path)
    ...     values, affine, spacing_mm = read_volume(path)
    >>> values.shape, spacing_mm
    ((7, 6, 5), (1.0, 2.0, 3.0))
    """
    file = read_nifti(path, max_bytes)
    array = file.values()
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return array.astype(array.dtype.newbyteorder("="), copy=False), file.header.affine, file.header.spacing_mm


def read_nifti(path: Path, max_bytes: int = MAX_FILE_BYTES) -> NiftiFile:
    """Read a file once and check it.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.
    max_bytes
        Largest size of the uncompressed file.

    Raises
    ------
    DatasetError
        As for `read_volume`.
    """
    stored = _read_bytes(path, max_bytes)
    gzipped = stored.startswith(_GZIP_MAGIC)
    if gzipped != path.name.lower().endswith(".gz"):
        found = "is compressed with gzip but not named .gz" if gzipped else "is named .gz but not compressed with gzip"
        raise DatasetError(path, found, f"rename it to {'.nii.gz' if gzipped else '.nii'}, or export it again")

    head = bytes(_inflate(stored, LONGEST_HEADER, path, whole=False)) if gzipped else stored[:LONGEST_HEADER]
    header = parse_header(head, path)
    if header.end > max_bytes:
        raise DatasetError(
            path,
            f"claims {format_shape(header.shape)} voxels of {header.dtype.name}, {header.end / 2**30:.3g} GiB, "
            f"over the budget of {max_bytes / 2**30:.3g} GiB",
            "check its header, crop it, or give more memory",
        )
    data = _inflate(stored, header.end + _PADDING, path, whole=True) if gzipped else stored
    _check_length(data, header, path)
    _check_extensions(data, header, path)
    voxels = np.frombuffer(
        data, header.dtype, count=(header.end - header.voxels_at) // header.dtype.itemsize, offset=header.voxels_at
    )
    return NiftiFile(path, header, stored, voxels)


def read_header(path: Path) -> NiftiHeader:
    """Read only the header of a file.

    Raises
    ------
    DatasetError
        The file cannot be read, or its header does not describe a volume with a valid geometry.
    """
    try:
        return parse_header(_first_bytes(path), path)
    except (OSError, zlib.error) as error:
        raise DatasetError(path, f"cannot be read ({error})", "check the file") from None


def _first_bytes(path: Path) -> bytes:
    """Return the bytes of the longest header, decompressed."""
    with open_regular(path) as stream:
        start = stream.read(4 * LONGEST_HEADER)
    # 31: a gzip header and trailer (16) with the largest window (15).
    return zlib.decompressobj(31).decompress(start, LONGEST_HEADER) if start.startswith(_GZIP_MAGIC) else start


def claimed_bytes(path: Path) -> int:
    """Return the uncompressed size of a file in bytes according to its header; 0 if the header is invalid."""
    # Called for every file of a dataset before the scan starts, so only the three fields are unpacked.
    try:
        start = _first_bytes(path)
        for size, dims, bits, offset in _CLAIMS:
            for order in "<>":
                if struct.unpack_from(f"{order}i", start)[0] != size:
                    continue
                rank, *shape = (int(value) for value in struct.unpack_from(order + dims[0], start, dims[1]))
                voxel_bits = struct.unpack_from(f"{order}h", start, bits)[0]
                voxels_at = int(struct.unpack_from(order + offset[0], start, offset[1])[0])
                voxels = math.prod(shape[:rank]) if 1 <= rank <= 7 and min(shape[:rank]) > 0 else 0
                return voxels_at + voxels * voxel_bits // 8 if voxels and voxel_bits > 0 and voxels_at > 0 else 0
    except (OSError, ValueError, OverflowError, struct.error, zlib.error):
        return 0
    return 0


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a regular file that does not change meanwhile."""
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            raise DatasetError(path, "is not a file", "name a .nii or .nii.gz file")
        if before.st_size == 0:
            raise DatasetError(path, "is empty (0 bytes)", _COPY_AGAIN)
        if before.st_size > max_bytes + _PADDING:
            size, budget = before.st_size / 2**30, max_bytes / 2**30
            raise DatasetError(
                path, f"is {size:.3g} GiB, over the budget of {budget:.3g} GiB", "crop it, or give more memory"
            )
        with path.open("rb") as stream:
            stored = stream.read(before.st_size + 1)
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        found = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise DatasetError(path, found, "add the file, or remove the case from the list") from None
    except OSError as error:
        raise DatasetError(
            path, f"cannot be read ({error.strerror or error})", "check the file and its permissions"
        ) from None
    if len(stored) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise DatasetError(path, "changed while it was read", "retry when it is written completely")
    return stored


def _inflate(stored: bytes, limit: int, path: Path, *, whole: bool) -> bytearray:
    """Return the uncompressed bytes of a gzip file.

    Parameters
    ----------
    stored
        Bytes of the file; several gzip members one after another are one stream.
    limit
        Largest number of uncompressed bytes.
    path
        File that errors name.
    whole
        True to read to the end and check the CRC of each member; more than `limit` bytes are then an error.
        Otherwise the first `limit` bytes are returned.
    """
    view = memoryview(stored)
    out = bytearray()
    position = empty_members = 0
    while position < len(view):
        # Only zeros are left: padding.
        if position and stored.count(0, position) == len(stored) - position:
            break
        if view[position : position + 2] != _GZIP_MAGIC:
            raise DatasetError(path, f"has {len(view) - position} bytes of garbage after its gzip stream", _COPY_AGAIN)
        member = zlib.decompressobj(31)
        start = len(out)
        while not member.eof:
            window = view[position : position + _WINDOW]
            try:
                # Never more than one byte beyond the limit, so that a zip bomb is refused without being inflated.
                out += member.decompress(window, limit + 1 - len(out))
            except zlib.error as error:
                reason = str(error).split(": ", 1)[-1]
                raise DatasetError(
                    path, f"has a damaged gzip stream at byte {position + len(window)} ({reason})", _COPY_AGAIN
                ) from None
            position += len(window) - len(member.unconsumed_tail) - len(member.unused_data)
            if len(out) > limit:
                if whole:
                    raise DatasetError(
                        path, f"holds more than the {limit - _PADDING} bytes of its header's shape", "check its header"
                    )
                return out[:limit]
            if position >= len(view) and not member.eof:
                if not whole:
                    return out
                raise DatasetError(
                    path, f"is cut short: its gzip stream ends after {len(out)} bytes of data", _COPY_AGAIN
                )
        # Millions of empty members fit into a small file and would take hours.
        empty_members += len(out) == start
        if empty_members > 1000:
            raise DatasetError(path, "has over 1000 empty gzip members", _COPY_AGAIN)
    return out


def _check_length(data: bytes | bytearray, header: NiftiHeader, path: Path) -> None:
    if len(data) < header.end:
        raise DatasetError(
            path,
            f"is cut short: {len(data)} bytes of data where {format_shape(header.shape)} voxels of {header.dtype.name} "
            f"need {header.end}",
            _COPY_AGAIN,
        )
    surplus = len(data) - header.end
    if surplus > _PADDING or any(memoryview(data)[header.end :]):
        raise DatasetError(
            path,
            f"holds {surplus} bytes more than the {header.end} of its header's shape {format_shape(header.shape)}",
            "check its header",
        )


def _check_extensions(data: bytes | bytearray, header: NiftiHeader, path: Path) -> None:
    """Check that the header extensions, which nibabel reads one by one, end before the voxels."""
    order = "little" if data[0] != 0 else "big"
    at = 352 if int.from_bytes(data[:4], order) == 348 else 544  # type: ignore[arg-type]
    if data[at - 4] == 0:
        return
    while header.voxels_at - at >= 16:
        size = int.from_bytes(data[at : at + 4], order, signed=True)  # type: ignore[arg-type]
        if size < 8 or at + size > header.voxels_at:
            raise DatasetError(
                path,
                f"has a header extension of {size} bytes at byte {at}, before voxels at {header.voxels_at}",
                "write the file again without header extensions",
            )
        at += size
