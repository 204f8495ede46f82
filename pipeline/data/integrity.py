"""Checks and measurements of one case, in one pass over its files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.data.dataset import Case, Problem
from pipeline.data.fingerprint import CaseScan, ClassScan, IntensityStatistics
from pipeline.data.intensities import NonFinite, scan_channel
from pipeline.data.labels import NotALabel, count_values, label_values, scan_classes
from pipeline.data.nifti import NiftiFile, read_nifti
from pipeline.data.nifti_header import NiftiHeader, corner_distance_mm, format_shape, format_spacing
from pipeline.errors import DatasetError

SAME_GRID = 0.1
"""Two grids are the same if no corner differs by more than this share of the smallest spacing."""

_RESAMPLE_LABEL = "resample the label to the grid of its image, or give the right label"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of the check of one case.

    Attributes
    ----------
    case
        The case.
    scan
        Its measurements; None if there are errors.
    problems
        Errors and notes.
    image_hashes
        SHA-256 of the values of each image file; "" for a file that is unreadable or constant.
    label_hash
        SHA-256 of the values of the label; "" without a valid label.
    """

    case: Case
    scan: CaseScan | None
    problems: tuple[Problem, ...]
    image_hashes: tuple[str, ...]
    label_hash: str


def check_case(case: Case, max_bytes: int) -> CaseResult:
    """Read each file of a case once, check it and measure it.

    Parameters
    ----------
    case
        The case; its problems are part of the result and are not raised.
    max_bytes
        Largest size of an uncompressed file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     paths = [Path(name) / "image.nii.gz", Path(name) / "label.nii.gz"]
    ...     for path, values in zip(paths, (np.arange(60, dtype=np.int16), np.full(60, 0.5, np.float32)), strict=True):
    ...         nib.save(nib.Nifti1Image(values.reshape(5, 4, 3), np.eye(4)), path)
    ...     result = check_case(Case("a", (paths[0],), paths[1], "a"), max_bytes=1 << 20)
    >>> [problem.problem for problem in result.problems]
    ['has 60 voxels with fractions, e.g. 0.5, but must hold whole numbers']
    """
    return _CaseCheck(case, max_bytes).run()


class _CaseCheck:
    """One check, with its results so far."""

    def __init__(self, case: Case, max_bytes: int) -> None:
        self.case = case
        self.max_bytes = max_bytes
        self.problems: list[Problem] = []
        self.image_hashes: list[str] = []
        self.label_hash = ""

    def run(self) -> CaseResult:
        # The label comes first, since images are measured within it. Images can then be read one after another.
        label, classes, foreground = self._label()
        digest = hashlib.sha256()
        channels: list[IntensityStatistics] = []
        first: NiftiHeader | None = None
        for path in self.case.images:
            file = self._read(path)
            if file is None:
                self.image_hashes.append("")
                continue
            digest.update(file.stored)
            if first is None:
                first = file.header
                if label is not None:
                    self._compare(label.path, label.header, first, "the label", _RESAMPLE_LABEL)
            else:
                self._compare(path, file.header, first, "this channel", "resample all channels to one grid")
            if len(self.case.images) > 1 and file.header.channels > 1:
                self._error(
                    path,
                    f"is 4D ({format_shape(file.header.shape)}) but must be one 3D channel",
                    "give one file per channel",
                )
            same_grid = label is not None and label.header.grid == file.header.grid
            channels += self._channels(file, foreground if same_grid else None)
        if label is not None:
            digest.update(label.stored)
        self._note_flat_channels(channels)

        scan = None
        if first is not None and not any(problem.severity == "error" for problem in self.problems):
            scan = CaseScan(
                case=self.case.id,
                shape=first.grid,
                spacing_mm=first.spacing_mm,
                orientation="".join(nib.aff2axcodes(first.affine)),  # type: ignore[no-untyped-call]
                content_hash=digest.hexdigest(),
                dtype=first.dtype.name,
                channels=tuple(channels),
                classes=classes,
            )
        return CaseResult(self.case, scan, tuple(self.problems), tuple(self.image_hashes), self.label_hash)

    def _label(self) -> tuple[NiftiFile | None, dict[int, ClassScan], np.ndarray | None]:
        """Return the label, the size of its classes, and the flat indices of its foreground."""
        path = self.case.label
        if path is None:
            self._error(self.case.images[0], "has no label", "add the label, or remove the case")
            return None, {}, None
        if any(image == path or _same_file(image, path) for image in self.case.images):
            self._error(path, "is both image and label of the case", "give the label file")
            return None, {}, None
        file = self._read(path)
        if file is None:
            return None, {}, None
        header = file.header
        if header.channels > 1:
            self._error(
                path, f"is 4D ({format_shape(header.shape)}) but must be a 3D label", "store one class value per voxel"
            )
            return file, {}, None
        try:
            values = label_values(file.voxels, header)
            counts = count_values(values)
        except NotALabel as error:
            self._error(path, str(error), "store the label as whole numbers, one for each class")
            return file, {}, None
        self.label_hash = hashlib.sha256(values.astype("<u2").tobytes()).hexdigest()
        if not self.case.annotation.is_complete:
            values, counts = self._known(path, values, counts)
        foreground = np.flatnonzero(values)
        if not len(foreground):
            self._note(path, "is an empty label (background only)", "used as a case without the structure")
        voxel_ml = abs(float(np.linalg.det(header.affine[:3, :3]))) / 1000
        grid = values.reshape(header.grid, order="F")
        return file, scan_classes(grid, counts, header.spacing_mm, voxel_ml), foreground

    def _known(self, path: Path, values: np.ndarray, counts: dict[int, int]) -> tuple[np.ndarray, dict[int, int]]:
        """Return label values with 0 for all that is unknown, and the voxels of each value that are known."""
        annotation = self.case.annotation
        ignored = counts.get(annotation.ignore, 0) if annotation.ignore is not None else 0
        if ignored == len(values):
            self._error(path, "has no annotated voxel", "annotate the case, or remove it")
        others = {value: n for value, n in counts.items() if value != annotation.ignore}
        drawn = [f"{value} ({n} voxels)" for value, n in others.items() if not annotation.includes(value)]
        if drawn:
            self._note(
                path,
                f"has label values for which it was not annotated: {', '.join(drawn[:5])}",
                "they count as unknown; add the classes to annotated.json if they are complete",
            )
        values = annotation.known_labels(values)
        known = {value: n for value, n in others.items() if value and annotation.includes(value)}
        background = len(values) - sum(known.values()) - ignored
        return values, ({0: background} if background else {}) | known

    def _channels(self, file: NiftiFile, foreground: np.ndarray | None) -> list[IntensityStatistics]:
        """Return the statistics of each channel in a file; record the hash of a file with any contrast."""
        size = len(file.voxels) // file.header.channels
        channels = []
        digest = hashlib.sha256()
        for index in range(file.header.channels):
            stored = file.voxels[index * size : (index + 1) * size]
            channel = scan_channel(stored, file.header.slope, file.header.intercept, foreground, digest)
            if isinstance(channel, NonFinite):
                self._error(
                    file.path,
                    f"has {channel.voxels} of {size} voxels that are NaN, infinite or beyond float32",
                    "replace them by a number or export the image again",
                )
            else:
                channels.append(channel)
        has_contrast = any(channel.minimum < channel.maximum for channel in channels)
        self.image_hashes.append(digest.hexdigest() if has_contrast else "")
        return channels

    def _note_flat_channels(self, channels: Sequence[IntensityStatistics]) -> None:
        flat = [index for index, channel in enumerate(channels) if channel.minimum == channel.maximum]
        if not flat:
            return
        one_file_each = len(channels) == len(self.case.images)
        for index in flat:
            path = self.case.images[index if one_file_each else 0]
            problem = f"is constant: every voxel of channel {index} is {channels[index].minimum:g}"
            if len(flat) == len(channels):
                self._error(path, problem, "replace the image, or remove the case")
            else:
                self._note(path, problem, "used, since other channels have contrast")

    def _compare(self, path: Path, header: NiftiHeader, reference: NiftiHeader, name: str, remedy: str) -> None:
        difference = grid_difference(header, reference)
        if difference:
            self._error(path, f"does not match its image {self.case.images[0].name}: {name} has {difference}", remedy)

    def _read(self, path: Path) -> NiftiFile | None:
        try:
            file = read_nifti(path, self.max_bytes)
        except DatasetError as error:
            self._error(path, error.problem, error.remedy)
            return None
        for finding in file.header.findings:
            self._note(path, finding.problem, finding.remedy)
        return file

    def _error(self, path: Path, problem: str, remedy: str) -> None:
        self.problems.append(Problem(str(path), self.case.id, problem, remedy, "error"))

    def _note(self, path: Path, problem: str, remedy: str) -> None:
        self.problems.append(Problem(str(path), self.case.id, problem, remedy, "note"))


def grid_difference(header: NiftiHeader, reference: NiftiHeader) -> str:
    """Return a description of how a grid differs from a reference, with numbers, or "" for the same grid.

    Parameters
    ----------
    header, reference
        Headers of the two files. Only shape and affine matter.
    """
    if header.grid != reference.grid:
        return f"shape {format_shape(header.grid)}, not {format_shape(reference.grid)}"
    distance = corner_distance_mm(header.affine, reference.affine, header.grid)
    if distance <= SAME_GRID * min(reference.spacing_mm):
        return ""
    spacing, expected = np.array(header.spacing_mm), np.array(reference.spacing_mm)
    if (np.abs(spacing - expected) > 0.01 * expected).any():
        return f"spacing {format_spacing(spacing)} mm, not {format_spacing(expected)} mm"
    if not np.allclose(header.affine[:3, :3] / spacing, reference.affine[:3, :3] / expected, atol=0.01):
        return f"another direction, {_axes(header)} not {_axes(reference)}, up to {distance:.3g} mm away"
    origin, expected_origin = header.affine[:3, 3], reference.affine[:3, 3]
    return f"origin ({_point(origin)}) mm, not ({_point(expected_origin)}) mm, up to {distance:.3g} mm away"


def _axes(header: NiftiHeader) -> str:
    return "".join(nib.aff2axcodes(header.affine))  # type: ignore[no-untyped-call]


def _point(position: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in position)


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
