"""Checks of a NIfTI header before any voxel is read (NIfTI-1.1 and NIfTI-2 standards)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import DatasetError

LONGEST_HEADER = 544
"""Bytes that hold any NIfTI header: 348 (NIfTI-1) or 540 (NIfTI-2), and the four bytes of the extension flag."""

_NUMERIC = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
"""Codes of data types with one real number per voxel: integers of 1 to 8 bytes, float32 and float64."""

_REFUSED = {
    0: "unknown",
    1: "binary",
    32: "complex64",
    128: "RGB color",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA color",
}
_EOL_CHECKS = (bytes(4), b"\r\n\x1a\n")
"""Values of NIfTI-2's field `eol_check`; a conversion of line ends, as in text files, changes them."""

_SPATIAL_UNITS = {1: "meters", 3: "micrometers"}
_RESAVE = "export the file again from its source"


class Finding(NamedTuple):
    """A peculiarity of a file that can be used nevertheless."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """Layout and geometry of a volume.

    Attributes
    ----------
    shape
        Voxels along the stored axes, then channels for 4D files.
    dtype
        Data type in the byte order of the file.
    voxels_at
        Byte at which the voxels start in the uncompressed file.
    slope, intercept
        The values are ``stored * slope + intercept``.
    affine
        (4, 4), from voxel indices to mm in R, A, S.
    findings
        Peculiarities worth a note.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    voxels_at: int
    slope: float
    intercept: float
    affine: np.ndarray
    findings: tuple[Finding, ...]

    @property
    def is_scaled(self) -> bool:
        """True if the values differ from the stored numbers."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along the three spatial axes."""
        return self.shape[0], self.shape[1], self.shape[2]

    @property
    def channels(self) -> int:
        """Number of channels: 1 for a 3D file, the fourth dimension of a 4D file."""
        return self.shape[3] if len(self.shape) == 4 else 1

    @property
    def end(self) -> int:
        """Number of bytes of the uncompressed file, up to and including the last voxel."""
        return self.voxels_at + math.prod(self.shape) * self.dtype.itemsize

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm between neighboring voxels along the stored axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def parse_header(head: bytes, subject: object) -> NiftiHeader:
    """Return the checked header of a NIfTI file.

    Parameters
    ----------
    head
        The first `LONGEST_HEADER` bytes of the uncompressed file.
    subject
        File that errors name.

    Raises
    ------
    DatasetError
        The bytes are not a NIfTI header, or do not describe a 3D or 4D volume of real numbers with a valid geometry.
    """
    header = _typed_header(head, subject)
    shape = _shape(header, subject)
    dtype = _dtype(header, subject)
    voxels_at = _offset(header, subject)
    slope, intercept = _scaling(header, subject)
    affine, findings = _geometry(header, shape, subject)
    return NiftiHeader(shape, dtype, voxels_at, slope, intercept, affine, tuple(findings))


def _typed_header(head: bytes, subject: object) -> nib.Nifti1Header:
    if len(head) < 348:
        raise _error(subject, f"holds {len(head)} bytes, fewer than the 348 of a NIfTI header", _RESAVE)
    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        for endianness, order in (("<", "little"), (">", "big")):
            if int.from_bytes(head[:4], order) == size and len(head) >= size:  # type: ignore[arg-type]
                header = kind(head[:size], endianness=endianness, check=False)  # type: ignore[no-untyped-call]
                magic = bytes(header["magic"].item())
                if magic == kind.pair_magic:
                    raise _error(subject, "is one half of a .hdr/.img pair", "convert it to a single .nii.gz file")
                if magic != kind.single_magic:
                    raise _error(subject, f"has the magic bytes {magic!r}, not those of NIfTI", _RESAVE)
                if size == 540 and bytes(header["eol_check"]) not in _EOL_CHECKS:
                    raise _error(subject, "was damaged by a conversion of line ends (NIfTI-2's eol_check)", _RESAVE)
                return header
    raise _error(subject, f"does not start as a NIfTI file (first bytes {head[:4].hex(' ')})", "convert it to NIfTI")


def _shape(header: nib.Nifti1Header, subject: object) -> tuple[int, ...]:
    dim = [int(value) for value in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise _error(subject, f"claims {dim[0]} dimensions", _RESAVE)
    shape = tuple(dim[1 : dim[0] + 1])
    if min(shape) < 1:
        raise _error(subject, f"claims a shape of {format_shape(shape)}", _RESAVE)
    if len(shape) < 3:
        raise _error(
            subject,
            f"is {len(shape)}D ({format_shape(shape)}) but must be a 3D volume",
            "stack its slices into a volume",
        )
    if len(shape) > 4:
        raise _error(
            subject,
            f"is {len(shape)}D ({format_shape(shape)})",
            "store channels along a fourth dimension or as one file each",
        )
    return shape


def _dtype(header: nib.Nifti1Header, subject: object) -> np.dtype:
    code = int(header["datatype"])
    if code not in _NUMERIC:
        name = _REFUSED.get(code, "unknown")
        raise _error(
            subject, f"has data type {code} ({name})", "store one real number per voxel, e.g. int16 or float32"
        )
    dtype = np.dtype(header.get_data_dtype())  # type: ignore[no-untyped-call]
    bits = int(header["bitpix"])
    if bits != dtype.itemsize * 8:
        raise _error(subject, f"contradicts itself: {dtype.name} voxels of {bits} bits", _RESAVE)
    return dtype


def _offset(header: nib.Nifti1Header, subject: object) -> int:
    offset = float(header["vox_offset"])
    least = int(header.single_vox_offset)
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise _error(subject, f"places its voxels at byte {offset:g}, inside the {least} bytes of the header", _RESAVE)
    return int(offset)


def _scaling(header: nib.Nifti1Header, subject: object) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    # The standard says that a slope of 0 means no scaling; nibabel writes NaN for it.
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise _error(subject, f"scales its voxels by slope {slope:g} and intercept {intercept:g}", _RESAVE)
    return slope, intercept


def _geometry(header: nib.Nifti1Header, shape: tuple[int, ...], subject: object) -> tuple[np.ndarray, list[Finding]]:
    """Return the affine (sform before qform before pixdim) and its peculiarities."""
    findings: list[Finding] = []
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    for name, code in codes.items():
        if not 0 <= code <= 5:
            raise _error(subject, f"has the {name} code {code}, but must have one of 0 to 5", _RESAVE)
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    # The spacing of an axis with one voxel matters only where no sform gives it.
    checked = np.array([size > 1 or not codes["sform"] for size in shape[:3]])
    wrong = checked & ~(np.isfinite(pixdim) & (pixdim > 0))
    if wrong.any():
        raise _error(
            subject, f"has a voxel size (pixdim) of {format_spacing(pixdim)} mm", "correct the spacing in the header"
        )
    # pixdim[0] is qfac, the handedness of the qform. Some writers leave it 0, which the standard takes for 1.
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1

    source = "sform" if codes["sform"] else "qform" if codes["qform"] else "pixdim"
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)  # type: ignore[no-untyped-call]
    except (HeaderDataError, ValueError) as error:
        raise _error(subject, f"has no valid orientation in its qform ({error})", _RESAVE) from None
    spacing = _checked_spacing(affine, source, subject)
    if (checked & (np.abs(pixdim - spacing) > 0.01 * spacing)).any():
        raise _error(
            subject,
            f"contradicts itself: voxels of {format_spacing(pixdim)} mm (pixdim) "
            f"or {format_spacing(spacing)} mm ({source})",
            "keep the right one in both places",
        )
    if source == "pixdim":
        findings.append(Finding("has no orientation (qform and sform codes are 0)", "axes are used as they are stored"))
    if codes["qform"] and codes["sform"]:
        findings += _forms_disagree(header, affine, shape)
    shear = _shear_degrees(affine)
    if shear > 1:
        findings.append(Finding(f"has axes {shear:.1f}° off a right angle", "distances in mm ignore the shear"))
    unit = int(header["xyzt_units"]) & 7
    if unit in _SPATIAL_UNITS:
        findings.append(Finding(f"gives lengths in {_SPATIAL_UNITS[unit]}", "its numbers are used as mm"))
    return affine, findings


def _checked_spacing(affine: np.ndarray, source: str, subject: object) -> np.ndarray:
    if not np.isfinite(affine).all():
        raise _error(subject, f"has an affine ({source}) with non-finite numbers", _RESAVE)
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # Volume of a parallelepiped with these axes and edges of 1: 1 for right angles, 0 for axes in one plane.
        volume = abs(np.linalg.det(affine[:3, :3] / spacing)) if (spacing > 0).all() else 0.0
    if not volume > 1e-3 or not np.isfinite(spacing).all():
        raise _error(
            subject, f"has a singular affine ({source}): axes of {format_spacing(spacing)} mm span no volume", _RESAVE
        )
    return np.asarray(spacing)


def _forms_disagree(header: nib.Nifti1Header, affine: np.ndarray, shape: tuple[int, ...]) -> list[Finding]:
    used = "the sform is used, as MONAI does"
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)  # type: ignore[no-untyped-call]
    except (HeaderDataError, ValueError):
        return [Finding("has an invalid qform beside its sform", used)]
    distance = corner_distance_mm(affine, qform, (shape[0], shape[1], shape[2]))
    if distance > 0.1 * float(np.linalg.norm(affine[:3, :3], axis=0).min()):
        return [Finding(f"has qform and sform that place it up to {distance:.3g} mm apart", used)]
    return []


def corner_distance_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return the largest distance in mm between the positions that two affines (4, 4) give to a corner of a grid.

    Parameters
    ----------
    first, second
        From voxel indices to mm.
    shape
        Voxels of the grid.

    Examples
    --------
    >>> shifted = np.eye(4)
    >>> shifted[2, 3] = 1.5
    >>> corner_distance_mm(np.eye(4), shifted, (10, 10, 10))
    1.5
    """
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, 8)
    difference = first[:3] - second[:3]
    return float(np.linalg.norm(difference[:, :3] @ corners + difference[:, 3:], axis=0).max())


def _shear_degrees(affine: np.ndarray) -> float:
    # The cosine between two axes is the sine of the angle by which they miss a right angle.
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes - np.eye(3))
    return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text.

    Examples
    --------
    >>> format_shape((35, 51, 35))
    '35×51×35'
    """
    return "×".join(map(str, shape))


def format_spacing(lengths_mm: np.ndarray | tuple[float, ...]) -> str:
    """Return edges of a voxel as text, without the unit.

    Examples
    --------
    >>> format_spacing((1.0, 1.0, 2.5))
    '1×1×2.5'
    """
    return "×".join(f"{length:.4g}" for length in lengths_mm)


def _error(subject: object, problem: str, remedy: str) -> DatasetError:
    return DatasetError(str(subject), problem, remedy)
