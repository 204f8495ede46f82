"""Resampling of the slices of a tilted gantry on a straight grid, and of a mask on that grid back on the slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from scipy import ndimage

from pipeline.inference.dicom.geometry import normal_of


@dataclass(frozen=True, slots=True)
class Tilt:
    """The regular shift of slices within their own plane.

    Parameters
    ----------
    first_mm
        Position (3,) of the first pixel of the straight volume in mm, L, P, S.
    step_mm
        Vector (3,) from one slice to the next along the normal in mm, L, P, S.
    shift_pixels
        Shift (2,) from one slice to the next, in rows and columns.
    margin
        Rows and columns added before the first pixel, so that all slices fit.
    shape
        Slices, rows and columns of the straight volume.
    source_shape
        Slices, rows and columns as stored.
    """

    first_mm: np.ndarray
    step_mm: np.ndarray
    shift_pixels: np.ndarray
    margin: tuple[int, int]
    shape: tuple[int, int, int]
    source_shape: tuple[int, int, int]

    @classmethod
    def between(
        cls,
        first_mm: Sequence[float],
        last_mm: Sequence[float],
        orientation: Sequence[float],
        pixel_spacing_mm: Sequence[float],
        shape: tuple[int, int, int],
    ) -> "Tilt":
        """Return the tilt of evenly spaced slices.

        Parameters
        ----------
        first_mm, last_mm
            Positions (3,) of the first and last slice in mm, L, P, S.
        orientation
            Six direction cosines.
        pixel_spacing_mm
            Distance between rows, and between columns.
        shape
            Slices, rows, columns.
        """
        first = np.asarray(first_mm, dtype=float)
        step = (np.asarray(last_mm, dtype=float) - first) / (shape[0] - 1)
        normal = normal_of(orientation)
        # The row index increases along the last three cosines, the column index along the first three.
        axes = np.asarray(orientation, dtype=float).reshape(2, 3)[::-1]
        shift = axes @ step / np.asarray(pixel_spacing_mm, dtype=float)[:2]
        ends = np.stack([np.zeros(2), shift * (shape[0] - 1)])
        margin = np.ceil(-ends.min(axis=0)).astype(int)
        size = np.ceil(ends.max(axis=0)).astype(int) + margin + shape[1:]
        origin = first - margin @ (axes * np.asarray(pixel_spacing_mm, dtype=float)[:2, None])
        return cls(
            origin, (step @ normal) * normal, shift, (int(margin[0]), int(margin[1])),
            (shape[0], int(size[0]), int(size[1])), shape,
        )  # fmt: skip

    def straight_position(self, number: int) -> np.ndarray:
        """Return the position (3,) of a slice of the straight volume, in mm."""
        position: np.ndarray = self.first_mm + number * self.step_mm
        return position

    def offset(self, number: int) -> np.ndarray:
        """Return the position (2,) of the first pixel of a stored slice on the straight grid, in rows and columns."""
        offset: np.ndarray = self.shift_pixels * number + self.margin
        return offset


def straightened(volume: hd.Volume, tilt: Tilt) -> hd.Volume:
    """Return slices resampled linearly on the straight grid; voxels outside of them get the volume's lowest value.

    Parameters
    ----------
    volume
        The slices as stored (columns, rows, slices), at the position of the straight grid.
    tilt
        The shift of the slices.
    """
    outside = float(volume.array.min())
    array = np.full(tilt.shape, outside, dtype=np.float32)
    for number, plane in enumerate(volume.array.T):
        ndimage.affine_transform(
            plane, np.ones(2), offset=-tilt.offset(number), output=array[number], output_shape=tilt.shape[1:],
            order=1, mode="constant", cval=outside,
        )  # fmt: skip
    return hd.Volume(
        array=array.T,
        affine=volume.affine,
        coordinate_system=volume.coordinate_system,
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )


def back_on_slices(mask: np.ndarray, tilt: Tilt) -> np.ndarray:
    """Return a mask (slices, rows, columns) on the straight grid resampled to the stored slices (nearest voxel)."""
    stored = np.zeros(tilt.source_shape, dtype=mask.dtype)
    for number in range(tilt.source_shape[0]):
        ndimage.affine_transform(
            mask[number], np.ones(2), offset=tilt.offset(number), output=stored[number],
            output_shape=tilt.source_shape[1:], order=0, mode="constant", cval=0,
        )  # fmt: skip
    return stored
