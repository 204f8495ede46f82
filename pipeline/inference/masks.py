"""Results as NIfTI on the grid of the input: the same affines with their codes, and the same axes as stored."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import Opener

from pipeline.system.files import atomic_path

_GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_SPATIAL_UNITS = 7
"""The bits of ``xyzt_units`` that hold the unit of space; the others hold that of time."""


def write_mask(path: Path, mask: np.ndarray, source: Path) -> None:
    """Write label values (X, Y, Z) on the grid of the NIfTI file `source`, atomically.

    Only the header fields of the geometry are copied, bit for bit; others may hold text about the patient.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    _write(path, mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16), source)


def write_probabilities(path: Path, probabilities: np.ndarray, source: Path) -> None:
    """Write probabilities (C, X, Y, Z), background first, as a 4D file (X, Y, Z, C) float32 on the grid of `source`.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    _write(path, np.moveaxis(probabilities, 0, -1).astype(np.float32, copy=False), source)


def write_probability_chunks(
    path: Path, shape: tuple[int, int, int, int], chunks: Iterable[np.ndarray], source: Path
) -> None:
    """Write the file of `write_probabilities` without holding the array in memory.

    Parameters
    ----------
    path
        The file, written atomically.
    shape
        Shape (C, X, Y, Z) of the whole array.
    chunks
        Its float32 values: class after class and, within a class, z slowest and x fastest. Each chunk is C-contiguous.
    source
        NIfTI file whose grid is used.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    classes, *grid = shape
    # The header is made for an array of the whole shape; broadcasting makes it without the memory.
    image = _image(np.broadcast_to(np.float32(0), (*grid, classes)), source)
    image.update_header()
    header: Any = image.header
    header.set_slope_inter(1.0, 0.0)
    with atomic_path(path) as temporary, Opener(str(temporary), "wb") as stream:
        header.write_to(stream)
        stream.write(b"\0" * (header.get_data_offset() - stream.tell()))
        for chunk in chunks:
            stream.write(chunk.astype("<f4", copy=False).tobytes())


def voxel_ml(affine: np.ndarray) -> float:
    """Return the volume of a voxel in mL.

    Parameters
    ----------
    affine
        Affine (4, 4): voxel indices to mm.

    Examples
    --------
    >>> voxel_ml(np.diag([2.0, 1.0, 1.0, 1.0]))
    0.002
    """
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def _write(path: Path, array: np.ndarray, source: Path) -> None:
    image = _image(array, source)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _image(array: np.ndarray, source: Path) -> Any:
    original: Any = nib.load(source).header
    image_class: Any = nib.Nifti2Image if isinstance(original, nib.Nifti2Header) else nib.Nifti1Image
    image = image_class(array, None)
    header: Any = image.header
    for field in _GEOMETRY:
        header[field] = original[field]
    header["pixdim"][:4] = original["pixdim"][:4]
    header["xyzt_units"] = int(original["xyzt_units"]) & _SPATIAL_UNITS
    return image
