"""What a NIfTI header claims, checked before a single voxel is read (NIfTI-1.1 and NIfTI-2 standards)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import DatasetError

LONGEST_HEADER = 544
"""Bytes that hold any NIfTI header: 348 (NIfTI-1) or 540 (NIfTI-2) and the four bytes of the extension flag."""

_NUMERIC = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
_REFUSED = {
    0: "unknown",
    1: "binary",
    32: "complex64",
    128: "RGB colour",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA colour",
}
_EOL_CHECKS = (bytes(4), b"\r\n\x1a\n")
_SPATIAL_UNITS = {1: "metres", 3: "micrometres"}
_RESAVE = "write the file again from its source"


class Finding(NamedTuple):
    """Something odd about a file that does not keep it from being used."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """The layout and geometry of a volume.

    `dtype` has the byte order of the file; values are ``stored * slope + intercept``; `affine` (4, 4) leads from voxel
    indices to mm in R, A, S; `voxels_at` is where the voxels start in the uncompressed file.
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
        """True when stored numbers are not yet the values."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def grid(self) -> tuple[int, int, int]:
        """The three spatial dimensions."""
        return self.shape[0], self.shape[1], self.shape[2]

    @property
    def channels(self) -> int:
        """Volumes in the file: 1 for 3D, the fourth dimension for 4D."""
        return self.shape[3] if len(self.shape) == 4 else 1

    @property
    def end(self) -> int:
        """Bytes of the uncompressed file up to and with the last voxel."""
        return self.voxels_at + math.prod(self.shape) * self.dtype.itemsize

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along the stored axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def parse_header(head: bytes, subject: object) -> NiftiHeader:
    """Return what the first `LONGEST_HEADER` bytes of an uncompressed NIfTI file say.

    Raises
    ------
    DatasetError
        Naming `subject`, when they are no NIfTI header or describe no 3D or 4D volume of real numbers in space.
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
        raise _error(subject, f"claims a shape of {by(shape)}", _RESAVE)
    if len(shape) < 3:
        raise _error(subject, f"is {len(shape)}D ({by(shape)}) where a 3D volume is meant", "stack slices to a volume")
    if len(shape) > 4:
        raise _error(
            subject, f"is {len(shape)}D ({by(shape)})", "store channels along a fourth dimension or as one file each"
        )
    return shape


def _dtype(header: nib.Nifti1Header, subject: object) -> np.dtype:
    code = int(header["datatype"])
    if code not in _NUMERIC:
        name = _REFUSED.get(code, "unknown")
        raise _error(subject, f"has data type {code} ({name})", "store one real number a voxel, e.g. int16 or float32")
    dtype = np.dtype(header.get_data_dtype())  # type: ignore[no-untyped-call]
    bits = int(header["bitpix"])
    if bits != dtype.itemsize * 8:
        raise _error(subject, f"contradicts itself: {dtype.name} voxels of {bits} bits", _RESAVE)
    return dtype


def _offset(header: nib.Nifti1Header, subject: object) -> int:
    offset = float(header["vox_offset"])
    least = int(header.single_vox_offset)
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise _error(subject, f"says that voxels start at byte {offset:g}, inside the {least} bytes of header", _RESAVE)
    return int(offset)


def _scaling(header: nib.Nifti1Header, subject: object) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise _error(subject, f"scales its voxels by slope {slope:g} and intercept {intercept:g}", _RESAVE)
    return slope, intercept


def _geometry(header: nib.Nifti1Header, shape: tuple[int, ...], subject: object) -> tuple[np.ndarray, list[Finding]]:
    """Return the affine (sform before qform before pixdim) and what is odd about it."""
    findings: list[Finding] = []
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    for name, code in codes.items():
        if not 0 <= code <= 5:
            raise _error(subject, f"has the {name} code {code}, none of 0 to 5", _RESAVE)
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    meant = np.array([size > 1 or not codes["sform"] for size in shape[:3]])
    wrong = meant & ~(np.isfinite(pixdim) & (pixdim > 0))
    if wrong.any():
        raise _error(subject, f"has a voxel size (pixdim) of {mm(pixdim)} mm", "correct the spacing in the header")
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1

    source = "sform" if codes["sform"] else "qform" if codes["qform"] else "pixdim"
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)  # type: ignore[no-untyped-call]
    except (HeaderDataError, ValueError) as error:
        raise _error(subject, f"has no valid orientation in its qform ({error})", _RESAVE) from None
    spacing = _checked_spacing(affine, source, subject)
    if (meant & (np.abs(pixdim - spacing) > 0.01 * spacing)).any():
        raise _error(
            subject,
            f"contradicts itself: voxels of {mm(pixdim)} mm (pixdim) or {mm(spacing)} mm ({source})",
            "keep the right one in both places",
        )
    if source == "pixdim":
        findings.append(
            Finding("says nothing on orientation (qform and sform codes 0)", "axes are taken as they are stored")
        )
    if codes["qform"] and codes["sform"]:
        findings += _forms_disagree(header, affine, shape)
    shear = _shear_degrees(affine)
    if shear > 1:
        findings.append(Finding(f"has axes {shear:.1f}° off a right angle", "distances in mm ignore the shear"))
    unit = int(header["xyzt_units"]) & 7
    if unit in _SPATIAL_UNITS:
        findings.append(Finding(f"gives lengths in {_SPATIAL_UNITS[unit]}", "its numbers are taken as mm"))
    return affine, findings


def _checked_spacing(affine: np.ndarray, source: str, subject: object) -> np.ndarray:
    if not np.isfinite(affine).all():
        raise _error(subject, f"has an affine ({source}) with non-finite numbers", _RESAVE)
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(np.linalg.det(affine[:3, :3] / spacing)) if (spacing > 0).all() else 0.0
    if not volume > 1e-3 or not np.isfinite(spacing).all():
        raise _error(subject, f"has a singular affine ({source}): axes of {mm(spacing)} mm span no volume", _RESAVE)
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
    """Return how far apart two affines (4, 4) place the same voxel of a grid of `shape`, at the worst corner."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, 8)
    difference = first[:3] - second[:3]
    return float(np.linalg.norm(difference[:, :3] @ corners + difference[:, 3:], axis=0).max())


def _shear_degrees(affine: np.ndarray) -> float:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes - np.eye(3))
    return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))


def by(shape: tuple[int, ...]) -> str:
    """Return a shape for reading: ``35×51×35``."""
    return "×".join(map(str, shape))


def mm(lengths: np.ndarray | tuple[float, ...]) -> str:
    """Return three lengths for reading: ``1×1×2.5``."""
    return "×".join(f"{length:.4g}" for length in lengths)


def _error(subject: object, problem: str, remedy: str) -> DatasetError:
    return DatasetError(str(subject), problem, remedy)
