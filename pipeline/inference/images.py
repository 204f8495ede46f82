"""The check of the image files of one case, which are read to their last byte before the network sees them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.data.integrity import grid_difference
from pipeline.data.intensities import NonFinite, scan_channel
from pipeline.data.nifti import MAX_FILE_BYTES, NiftiFile, apply_scaling, read_nifti
from pipeline.data.nifti_header import NiftiHeader, format_shape
from pipeline.errors import DatasetError
from pipeline.system.files import NotRegularFile, sha256_of_files


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The checked images of a case.

    Parameters
    ----------
    header
        Header of the first file.
    shape, spacing_mm
        Size in voxels and spacing in mm along the axes R, A, S.
    intensity
        Minimum and maximum of each channel.
    voxels
        Values (X, Y, Z) of the first channel as stored in the file; `values` scales them.
    notes
        Oddities that do not prevent the use of the case.
    """

    header: NiftiHeader
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    intensity: tuple[tuple[float, float], ...]
    voxels: np.ndarray
    notes: tuple[str, ...]

    def values(self, where: np.ndarray | tuple[slice | int, ...]) -> np.ndarray:
        """Return the values of the first channel at an index, scaled by slope and intercept."""
        return apply_scaling(self.voxels[where], self.header)


def check_images(paths: Sequence[Path], channels: Sequence[str], max_bytes: int = MAX_FILE_BYTES) -> ImageFacts:
    """Read each file once and check it.

    Files must be complete and finite, their number of channels must be that of the training, at least one channel must
    have contrast, and all must lie on one grid.

    Parameters
    ----------
    paths
        One file (3D, or 4D with channels last), or one 3D file for each channel.
    channels
        Names of the model's channels.
    max_bytes
        Largest accepted size of an uncompressed file.

    Raises
    ------
    DatasetError
        Naming the first file that fails, the problem and a remedy.
    """
    notes: list[str] = []
    ranges: list[tuple[float, float]] = []
    first: NiftiFile | None = None
    for path in paths:
        file = read_nifti(path, max_bytes)
        notes += [f"{finding.problem}; {finding.remedy}" for finding in file.header.findings]
        if len(paths) > 1 and file.header.channels > 1:
            problem = f"is 4D ({format_shape(file.header.shape)}) but must be one 3D channel"
            raise DatasetError(path, problem, "give one 3D file for each channel")
        if first is not None and (difference := grid_difference(file.header, first.header)):
            problem = f"is not on the grid of the first channel: it has {difference}"
            raise DatasetError(path, problem, "resample all channels to one grid")
        ranges += _ranges(file)
        first = first or file
    assert first is not None
    if len(ranges) != len(channels):
        dimensions = f"4D ({format_shape(first.header.shape)}), " if first.header.channels > 1 else ""
        raise DatasetError(
            first.path,
            f"is {dimensions}{_count(len(ranges))}; the model requires {len(channels)} ({', '.join(channels)})",
            "give one file for each channel, or one 4D file with all of them",
        )
    flat = [name for name, (low, high) in zip(channels, ranges, strict=True) if low == high]
    if len(flat) == len(channels):
        raise DatasetError(first.path, f"is constant: every voxel is {ranges[0][0]:g}", "give the correct image")
    notes += [f"channel {name} is constant" for name in flat]
    header = first.header
    orientation: Any = nib.orientations.io_orientation(header.affine)
    x, y, z = np.argsort(orientation[:, 0]).tolist()
    grid, spacing = header.grid, header.spacing_mm
    size = header.grid[0] * header.grid[1] * header.grid[2]
    return ImageFacts(
        header=header,
        shape=(grid[x], grid[y], grid[z]),
        spacing_mm=(spacing[x], spacing[y], spacing[z]),
        intensity=tuple(ranges),
        voxels=first.voxels[:size].reshape(grid, order="F"),
        notes=tuple(dict.fromkeys(notes)),
    )


def hash_of_images(paths: Sequence[Path]) -> str:
    """Return the SHA-256, hexadecimal, over the bytes of the files in their order.

    Raises
    ------
    DatasetError
        When a file is missing or cannot be read.
    """
    try:
        return sha256_of_files(paths)
    except FileNotFoundError as error:
        raise DatasetError(error.filename, "does not exist", "add the file, or remove the case from the list") from None
    except NotRegularFile as error:
        raise DatasetError(error.filename, "is not a file", "name a .nii or .nii.gz file") from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise DatasetError(error.filename, problem, "check the file and its permissions") from None


def _ranges(file: NiftiFile) -> list[tuple[float, float]]:
    size = len(file.voxels) // file.header.channels
    ranges = []
    for index in range(file.header.channels):
        stored = file.voxels[index * size : (index + 1) * size]
        channel = scan_channel(stored, file.header.slope, file.header.intercept, None, hashlib.sha256())
        if isinstance(channel, NonFinite):
            raise DatasetError(
                file.path,
                f"has {channel.voxels} of {size} voxels that are NaN, infinite or beyond float32",
                "write the image again from its source",
            )
        ranges.append((channel.minimum, channel.maximum))
    return ranges


def _count(channels: int) -> str:
    return f"{channels} channel{'s' if channels > 1 else ''}"
