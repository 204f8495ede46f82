"""A series as a volume of float32 values and as a NIfTI file; highdicom computes the geometry."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import highdicom as hd
import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from pipeline.inference.dicom.case import DicomCase, DicomError
from pipeline.inference.dicom.geometry import spacing_tolerance_mm
from pipeline.inference.dicom.reading import DAMAGED, read_file
from pipeline.inference.dicom.tilt import Tilt, straightened
from pipeline.inference.dicom.uniform_geometry import with_uniform_geometry
from pipeline.system.files import atomic_path

_Grid = TypeVar("_Grid", hd.Volume, hd.VolumeGeometry)

_PERPENDICULAR = 0.01
"""Tolerance of highdicom's own check for tilts. It is wide, since `geometry.stack` has checked them in pixels."""


def to_nifti(case: DicomCase, path: Path) -> Path:
    """Write the volume of a case as NIfTI: float32, (columns, rows, slices), affine in R, A, S.

    Slices are in the order of their positions. Each is rescaled by its own slope and intercept. The file has no
    information on the patient except the image.

    Parameters
    ----------
    case
        A case without a problem.
    path
        The file, written atomically; it is returned.

    Raises
    ------
    DicomError
        Where headers showed a problem, or a slice cannot be decoded.
    """
    image = read_volume(case).to_nibabel()
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def read_volume(case: DicomCase) -> hd.Volume:
    """Return the volume of a case: float32 (columns, rows, slices) with its geometry in the patient (L, P, S).

    Slices are ordered along the normal of their planes, as in ITK.

    Raises
    ------
    DicomError
        As `to_nifti`.
    """
    error = case.error()
    if error:
        raise error
    datasets = _read(case, with_pixels=True)
    tolerance = spacing_tolerance_mm(case.spacing_mm[2])
    try:
        if _is_multiframe(datasets):
            volume = hd.Image.from_dataset(datasets[0], copy=False).get_volume(
                dtype=np.float32,
                apply_real_world_transform=False,
                apply_presentation_lut=False,
                atol=tolerance,
                perpendicular_tol=_PERPENDICULAR,
            )
            return in_nifti_order(volume)
        tilt = tilt_of(case, datasets)
        volume = hd.get_volume_from_series(
            _straight(datasets, tilt) if tilt else datasets,
            dtype=np.float32,
            apply_real_world_transform=False,
            apply_presentation_lut=False,
            atol=tolerance,
            perpendicular_tol=_PERPENDICULAR,
            orientation_tol=_PERPENDICULAR,
        )
    except (ValueError, RuntimeError, AttributeError, TypeError) as reason:
        raise _undecodable(case, datasets, reason) from reason
    return straightened(in_nifti_order(volume), tilt) if tilt else in_nifti_order(volume)


def in_nifti_order(grid: _Grid) -> _Grid:
    """Return highdicom's (slices, rows, columns) as (columns, rows, slices), the slices ordered along their normal."""
    return grid.permute_spatial_axes((2, 1, 0)).ensure_handedness("RIGHT_HANDED", flip_axis=2)


def in_slice_order(volume: hd.Volume) -> hd.Volume:
    """Return (columns, rows, slices) as (slices, rows, columns), the order that a SEG requires."""
    return volume.permute_spatial_axes((2, 1, 0))


def grid_of(case: DicomCase, datasets: Sequence[Dataset]) -> hd.VolumeGeometry:
    """Return the grid of a straight volume (slices, rows, columns), from headers alone.

    Raises
    ------
    DicomError
        Where the frames of a multi-frame file do not make a volume.
    """
    if _is_multiframe(datasets):
        geometry = hd.Image.from_dataset(datasets[0], copy=True).get_volume_geometry(
            atol=spacing_tolerance_mm(case.spacing_mm[2]), perpendicular_tol=_PERPENDICULAR
        )
        if geometry is None:
            raise DicomError(case.id, "its frames do not make a volume", "choose another series")
        return geometry
    # highdicom stacks slices against their normal: its first slice is the last one in the order of positions.
    first = datasets[-1]
    return hd.VolumeGeometry.from_attributes(
        image_position=first.ImagePositionPatient,
        image_orientation=first.ImageOrientationPatient,
        rows=int(first.Rows),
        columns=int(first.Columns),
        pixel_spacing=first.PixelSpacing,
        spacing_between_slices=case.spacing_mm[2],
        number_of_frames=len(datasets),
        frame_of_reference_uid=first.FrameOfReferenceUID,
        coordinate_system="PATIENT",
    )


def read_headers(case: DicomCase) -> list[Dataset]:
    """Return the headers of a case without pixels, with uniform geometry, in the order of positions.

    Raises
    ------
    DicomError
        Where a file is no longer readable.
    """
    return _read(case, with_pixels=False)


def tilt_of(case: DicomCase, datasets: Sequence[Dataset]) -> Tilt | None:
    """Return the shift of tilted slices that are to be resampled; None for straight ones."""
    if not case.resample_tilt:
        return None
    first, last = datasets[0], datasets[-1]
    return Tilt.between(
        first.ImagePositionPatient,
        last.ImagePositionPatient,
        first.ImageOrientationPatient,
        first.PixelSpacing,
        (len(datasets), int(first.Rows), int(first.Columns)),
    )


def _read(case: DicomCase, *, with_pixels: bool) -> list[Dataset]:
    try:
        return with_uniform_geometry([read_file(path, with_pixels=with_pixels) for path in case.files])
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DicomError(case.id, f"a file of the series is no longer readable ({reason})", "copy it again") from error


def _is_multiframe(datasets: Sequence[Dataset]) -> bool:
    return "PerFrameFunctionalGroupsSequence" in datasets[0]


def _straight(datasets: list[Dataset], tilt: Tilt) -> list[Dataset]:
    """Give the slices the positions that they have without the tilt; return the same datasets."""
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [float(value) for value in tilt.straight_position(number)]
    return datasets


def _undecodable(case: DicomCase, datasets: Sequence[Dataset], error: Exception) -> DicomError:
    """Describe the first slice that cannot be decoded, or else highdicom's error; the text of neither is repeated."""
    for dataset in datasets:
        try:
            _ = dataset.pixel_array
        except Exception as reason:
            syntax = dataset.file_meta.TransferSyntaxUID.name
            number = dataset.get("InstanceNumber")
            return DicomError(
                case.id,
                f"image number {number} cannot be decoded ({syntax}, {len(dataset.get('PixelData') or b'')} bytes of "
                f"pixels): {type(reason).__name__}",
                "send the series again, if necessary uncompressed",
            )
    return DicomError(case.id, f"its slices do not make a volume ({type(error).__name__})", "choose another series")
