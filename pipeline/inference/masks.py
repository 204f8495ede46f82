"""Results as NIfTI on the grid of the input: its affines with their codes, its axes as stored, bit for bit."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import Opener

from pipeline.data.nifti import claimed_bytes
from pipeline.data.nifti_header import LONGEST_HEADER
from pipeline.system.files import atomic_path

_GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_SPATIAL_UNITS = 7


def write_mask(path: Path, mask: np.ndarray, source: Path) -> None:
    """Write label values (X, Y, Z) on the grid of the file `source`, whole or not at all.

    Header fields that say where voxels lie are copied as they are; others, which may hold words on the patient,
    are not.
    """
    _write(path, mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16), source)


def write_probabilities(path: Path, probabilities: np.ndarray, source: Path) -> None:
    """Write probabilities (C, X, Y, Z), background first, as a 4D file (X, Y, Z, C) float32 on the grid of `source`."""
    _write(path, np.moveaxis(probabilities, 0, -1).astype(np.float32, copy=False), source)


def write_probability_chunks(
    path: Path, shape: tuple[int, int, int, int], chunks: Iterable[np.ndarray], source: Path
) -> None:
    """Write what `write_probabilities` writes of an array of `shape` (C, X, Y, Z), without holding it.

    `chunks` are its float32 values, class after class and within it z slowest, x fastest; each is C-contiguous.
    """
    classes, *grid = shape
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
    """Return the volume of a voxel in mL of an affine (4, 4) in mm."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def voxels_claimed(path: Path) -> int:
    """Return how many bytes the voxels of a file take, from its header alone; 0 where it cannot be told."""
    return max(0, claimed_bytes(path) - LONGEST_HEADER)


def _write(path: Path, array: np.ndarray, source: Path) -> None:
    image = _image(array, source)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _image(array: np.ndarray, source: Path) -> Any:
    original: Any = nib.load(source).header
    kind: Any = nib.Nifti2Image if isinstance(original, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array, None)
    header: Any = image.header
    for field in _GEOMETRY:
        header[field] = original[field]
    header["pixdim"][:4] = original["pixdim"][:4]
    header["xyzt_units"] = int(original["xyzt_units"]) & _SPATIAL_UNITS
    return image
