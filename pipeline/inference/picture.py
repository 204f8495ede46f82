"""A picture for visual checks: three planes through the result, with the outlines of the classes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from pipeline.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_orientations: Any = nib.orientations
_LONGEST_EDGE = 512
"""Pixels of a plane along one axis at most; larger planes are thinned out."""

_LONGEST_WARNING = 170
"""Characters of all warnings that are shown."""

_COLORS = (
    "#e6194b", "#3cb44b", "#4aa3ff", "#f58231", "#c77dff", "#46f0f0", "#f032e6", "#d2f53c", "#ffe119", "#ff9aa2",
)  # fmt: skip
_BACKGROUND, _TEXT, _WARNING, _DIRECTION = "#111418", "#e8eaed", "#ffcc66", "#ffe119"


@dataclass(frozen=True, slots=True)
class _Plane:
    """A plane of a volume in R, A, S order: the axis across it, and its axes to the right and up."""

    name: str
    across: int
    right: int
    up: int


_PLANES = (_Plane("sagittal", 0, 1, 2), _Plane("coronal", 1, 0, 2), _Plane("axial", 2, 0, 1))


@dataclass(frozen=True, slots=True)
class PictureContent:
    """Content of a picture.

    Parameters
    ----------
    case
        Identifier of the case, the title.
    image, mask
        Intensities and label values (X, Y, Z), on one grid.
    affine
        Affine (4, 4) of the grid: voxel indices to mm in R, A, S.
    classes
        Names of the classes by label value.
    volumes_ml
        Volume in mL by name of the class.
    warnings
        Texts shown below the planes.
    """

    case: str
    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    classes: Mapping[int, str]
    volumes_ml: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def write_picture(path: Path, content: PictureContent) -> None:
    """Write a PNG of three planes, each at the slice with most voxels of the result, atomically.

    The patient's right is on the left of coronal and axial planes, as radiologists view them.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image, mask, spacing_mm = _in_ras_order(content)
    center = _center(mask)
    edges_mm = [size * edge for size, edge in zip(mask.shape, spacing_mm, strict=True)]
    figure = Figure(figsize=(12, 5.2), dpi=100, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    widths = [max(edges_mm[plane.right], 0.4 * max(edges_mm)) for plane in _PLANES]
    gray_range = _gray_range(image)
    for axes, plane in zip(figure.subplots(1, 3, width_ratios=widths), _PLANES, strict=True):
        index = center[plane.across]
        # Thinned out before drawing: a plane of a large CT would take longer than its prediction.
        step_x, step_y = (max(1, math.ceil(mask.shape[edge] / _LONGEST_EDGE)) for edge in (plane.right, plane.up))
        pixels, labels = (np.take(array, index, plane.across).T[::step_y, ::step_x] for array in (image, mask))
        axes.imshow(
            pixels.astype(np.float32), cmap="gray", vmin=gray_range[0], vmax=gray_range[1], origin="lower",
            interpolation="nearest", aspect=spacing_mm[plane.up] * step_y / (spacing_mm[plane.right] * step_x),
        )  # fmt: skip
        _draw_outlines(axes, labels, content.classes)
        _label_plane(axes, plane, f"{plane.name} {index + 1} of {mask.shape[plane.across]}")
    _write_texts(figure, content)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.86, bottom=0.12, wspace=0.03)
    with atomic_path(path) as temporary:
        # Without the version of matplotlib, so that an update does not change the bytes.
        figure.savefig(temporary, format="png", facecolor=_BACKGROUND, metadata={"Software": None})


def _draw_outlines(axes: "Axes", labels: np.ndarray, classes: Mapping[int, str]) -> None:
    for index, value in enumerate(classes):
        if (labels == value).any():
            # The margin of one pixel closes outlines at the border of the image.
            padded = np.pad(labels == value, 1).astype(np.uint8)
            columns, rows = np.arange(-1, labels.shape[1] + 1), np.arange(-1, labels.shape[0] + 1)
            axes.contour(columns, rows, padded, [0.5], colors=[_COLORS[index % len(_COLORS)]], linewidths=1.4)


def _label_plane(axes: "Axes", plane: _Plane, title: str) -> None:
    if plane.right == 0:
        axes.invert_xaxis()
    axes.set_title(title, color=_TEXT, fontsize=10)
    side, foot = "R" if plane.right == 0 else "P", "P" if plane.up == 1 else "F"
    for text, x, y in ((side, 0.02, 0.5), (foot, 0.5, 0.03)):
        axes.text(x, y, text, transform=axes.transAxes, color=_DIRECTION, fontsize=9, va="center", ha="center")
    axes.axis("off")


def _write_texts(figure: "Figure", content: PictureContent) -> None:
    figure.suptitle(content.case, color=_TEXT, fontsize=12, x=0.02, ha="left", parse_math=False)
    x = 0.02
    for index, name in enumerate(content.classes.values()):
        text = f"{name} {content.volumes_ml.get(name, 0.0):.2f} mL"
        figure.text(x, 0.06, text, color=_COLORS[index % len(_COLORS)], fontsize=10, parse_math=False)
        x += 0.03 + 0.0075 * len(text)
    if not content.mask.any():
        figure.text(0.5, 0.06, "nothing found", color=_WARNING, fontsize=11, ha="center")
    if content.warnings:
        text = "; ".join(content.warnings)
        shortened = text if len(text) < _LONGEST_WARNING else f"{text[: _LONGEST_WARNING - 1]}…"
        figure.text(0.02, 0.015, shortened, color=_WARNING, fontsize=8, parse_math=False)


def _in_ras_order(content: PictureContent) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Return views of image and mask whose axes are closest to R, A, S, and the spacing in mm along these."""
    orientation = _orientations.io_orientation(content.affine)
    x, y, z = np.linalg.norm(content.affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])]
    image, mask = (_orientations.apply_orientation(array, orientation) for array in (content.image, content.mask))
    return image, mask, (float(x), float(y), float(z))


def _center(mask: np.ndarray) -> tuple[int, ...]:
    """Return for each axis the index of the slice with most voxels of the result; of the middle one if it is empty."""
    center = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(mask, axis=others)
        center.append(int(counts.argmax()) if counts.any() else mask.shape[axis] // 2)
    return tuple(center)


def _gray_range(image: np.ndarray) -> tuple[float, float]:
    """Return the values shown black and white: percentiles 0.5 and 99.5 of at most about a million voxels."""
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    low, high = np.percentile(image[::step, ::step, ::step].astype(np.float32), [0.5, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0
