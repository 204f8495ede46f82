"""One case checked and measured in one pass over its files."""

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
from pipeline.data.nifti_header import NiftiHeader, by, corner_distance_mm, mm
from pipeline.errors import DatasetError

SAME_GRID = 0.1
"""Two grids are one when no corner lies further apart than this share of the smallest spacing."""

_SAVE_LABEL_ON_GRID = "resample the label to the grid of its image, or give the right label"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one pass over a case found; `scan` is None when there are errors.

    `image_hashes` are SHA-256 of the values of each image file, "" where it is unreadable or constant; `label_hash` is
    that of the label's values.
    """

    case: Case
    scan: CaseScan | None
    problems: tuple[Problem, ...]
    image_hashes: tuple[str, ...]
    label_hash: str


def check_case(case: Case, max_bytes: int) -> CaseResult:
    """Read each file of `case` once, all checks included, and measure it."""
    return _CasePass(case, max_bytes).run()


class _CasePass:
    """The state of one pass: what was found so far."""

    def __init__(self, case: Case, max_bytes: int) -> None:
        self.case = case
        self.max_bytes = max_bytes
        self.problems: list[Problem] = []
        self.image_hashes: list[str] = []
        self.label_hash = ""

    def run(self) -> CaseResult:
        # The label comes first, since the statistics of images are those within it; images are then held one by one.
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
                    self._compare(label.path, label.header, first, "the label", _SAVE_LABEL_ON_GRID)
            else:
                self._compare(path, file.header, first, "this channel", "resample all channels to one grid")
            if len(self.case.images) > 1 and file.header.channels > 1:
                self._error(
                    path, f"is 4D ({by(file.header.shape)}) where one 3D channel is meant", "give one file each"
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
        """Return the label, its classes, and the flat indices of its foreground."""
        path = self.case.label
        if path is None:
            self._error(self.case.images[0], "has no label", "add the label, or take the case out")
            return None, {}, None
        if any(image == path or _same_file(image, path) for image in self.case.images):
            self._error(path, "is both image and label of the case", "name the label file")
            return None, {}, None
        file = self._read(path)
        if file is None:
            return None, {}, None
        header = file.header
        if header.channels > 1:
            self._error(path, f"is 4D ({by(header.shape)}) where a 3D label is meant", "store one class value a voxel")
            return file, {}, None
        try:
            values = label_values(file.voxels, header)
            counts = count_values(values)
        except NotALabel as error:
            self._error(path, str(error), "store the label as whole numbers, one for each class")
            return file, {}, None
        self.label_hash = hashlib.sha256(values.astype("<u2").tobytes()).hexdigest()
        foreground = np.flatnonzero(values)
        if not len(foreground):
            self._note(path, "is an empty label (background only)", "kept: a case without the structure")
        voxel_ml = abs(float(np.linalg.det(header.affine[:3, :3]))) / 1000
        grid = values.reshape(header.grid, order="F")
        return file, scan_classes(grid, counts, header.spacing_mm, voxel_ml), foreground

    def _channels(self, file: NiftiFile, foreground: np.ndarray | None) -> list[IntensityStatistics]:
        """Return the statistics of each channel in a file; keep its hash where it has any contrast."""
        size = len(file.voxels) // file.header.channels
        found = []
        digest = hashlib.sha256()
        for index in range(file.header.channels):
            stored = file.voxels[index * size : (index + 1) * size]
            channel = scan_channel(stored, file.header.slope, file.header.intercept, foreground, digest)
            if isinstance(channel, NonFinite):
                self._error(
                    file.path,
                    f"has {channel.voxels} of {size} voxels that are NaN, infinite or beyond float32",
                    "replace them by a number or write the image again",
                )
            else:
                found.append(channel)
        has_contrast = any(channel.minimum < channel.maximum for channel in found)
        self.image_hashes.append(digest.hexdigest() if has_contrast else "")
        return found

    def _note_flat_channels(self, channels: Sequence[IntensityStatistics]) -> None:
        flat = [index for index, channel in enumerate(channels) if channel.minimum == channel.maximum]
        if not flat:
            return
        one_file_each = len(channels) == len(self.case.images)
        for index in flat:
            path = self.case.images[index if one_file_each else 0]
            problem = f"is constant: every voxel of channel {index} is {channels[index].minimum:g}"
            if len(flat) == len(channels):
                self._error(path, problem, "give the right image, or take the case out")
            else:
                self._note(path, problem, "kept: the other channels have contrast")

    def _compare(self, path: Path, header: NiftiHeader, reference: NiftiHeader, what: str, remedy: str) -> None:
        difference = grid_difference(header, reference)
        if difference:
            self._error(path, f"does not match its image {self.case.images[0].name}: {what} has {difference}", remedy)

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
    """Return in words, with numbers, how two grids differ, or "" when they are the same."""
    if header.grid != reference.grid:
        return f"shape {by(header.grid)}, not {by(reference.grid)}"
    distance = corner_distance_mm(header.affine, reference.affine, header.grid)
    if distance <= SAME_GRID * min(reference.spacing_mm):
        return ""
    spacing, meant = np.array(header.spacing_mm), np.array(reference.spacing_mm)
    if (np.abs(spacing - meant) > 0.01 * meant).any():
        return f"spacing {mm(spacing)} mm, not {mm(meant)} mm"
    if not np.allclose(header.affine[:3, :3] / spacing, reference.affine[:3, :3] / meant, atol=0.01):
        return f"another direction, {_axes(header)} not {_axes(reference)}, up to {distance:.3g} mm away"
    origin, meant_origin = header.affine[:3, 3], reference.affine[:3, 3]
    return f"origin ({_point(origin)}) mm, not ({_point(meant_origin)}) mm, up to {distance:.3g} mm away"


def _axes(header: NiftiHeader) -> str:
    return "".join(nib.aff2axcodes(header.affine))  # type: ignore[no-untyped-call]


def _point(position: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in position)


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
