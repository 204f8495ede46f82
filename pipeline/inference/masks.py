"""Results as NIfTI on the grid of the input: its affines with their codes, its axes as stored, bit for bit."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.data.nifti import claimed_bytes
from pipeline.data.nifti_header import LONGEST_HEADER
from pipeline.files import atomic_path

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


def voxel_ml(affine: np.ndarray) -> float:
    """Return the volume of a voxel in mL of an affine (4, 4) in mm."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def voxels_claimed(path: Path) -> int:
    """Return how many bytes the voxels of a file take, from its header alone; 0 where it cannot be told."""
    return max(0, claimed_bytes(path) - LONGEST_HEADER)


def _write(path: Path, array: np.ndarray, source: Path) -> None:
    original: Any = nib.load(source).header
    kind: Any = nib.Nifti2Image if isinstance(original, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array, None)
    header: Any = image.header
    for field in _GEOMETRY:
        header[field] = original[field]
    header["pixdim"][:4] = original["pixdim"][:4]
    header["xyzt_units"] = int(original["xyzt_units"]) & _SPATIAL_UNITS
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
