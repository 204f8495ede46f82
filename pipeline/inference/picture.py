"""A picture for a quick look: three planes through the result, with the outlines of the classes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.system.files import atomic_path

_orientations: Any = nib.orientations
_LONGEST_EDGE = 512
_PLANES = (("sagittal", 0, 1, 2), ("coronal", 1, 0, 2), ("axial", 2, 0, 1))
"""Name, axis across the plane, and axes to the right and up, of a volume in R, A, S order."""
_COLOURS = (
    "#e6194b", "#3cb44b", "#4aa3ff", "#f58231", "#c77dff", "#46f0f0", "#f032e6", "#d2f53c", "#ffe119", "#ff9aa2",
)  # fmt: skip
_BACKGROUND, _INK = "#111418", "#e8eaed"


def write_picture(
    path: Path,
    image: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    classes: Mapping[int, str],
    volumes_ml: Mapping[str, float],
    case: str,
    warnings: Sequence[str] = (),
) -> None:
    """Draw image and mask (X, Y, Z), on the grid of `affine`, as PNG; each plane where it cuts most of the result.

    Planes are seen as radiologists do, the patient's right on the left side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image, mask, spacing = _as_ras(image, mask, affine)
    centre = _centre(mask)
    edges = [size * edge for size, edge in zip(mask.shape, spacing, strict=True)]
    figure = Figure(figsize=(12, 5.2), dpi=100, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=[max(edges[right], 0.4 * max(edges)) for _, _, right, _ in _PLANES])
    low, high = _window(image)
    for axis, (name, across, right, up) in zip(axes, _PLANES, strict=True):
        at = centre[across]
        step_x, step_y = (max(1, math.ceil(mask.shape[edge] / _LONGEST_EDGE)) for edge in (right, up))
        plane = np.take(image, at, across).T[::step_y, ::step_x]
        labels = np.take(mask, at, across).T[::step_y, ::step_x]
        axis.imshow(
            plane.astype(np.float32), cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest",
            aspect=spacing[up] * step_y / (spacing[right] * step_x),
        )  # fmt: skip
        for index, value in enumerate(classes):
            if (labels == value).any():
                padded = np.pad(labels == value, 1).astype(np.uint8)
                columns, rows = np.arange(-1, labels.shape[1] + 1), np.arange(-1, labels.shape[0] + 1)
                axis.contour(columns, rows, padded, [0.5], colors=[_COLOURS[index % len(_COLOURS)]], linewidths=1.4)
        if right == 0:
            axis.invert_xaxis()
        axis.set_title(f"{name} {at + 1} of {mask.shape[across]}", color=_INK, fontsize=10)
        side, foot = "R" if right == 0 else "P", "P" if up == 1 else "F"
        for text, x, y in ((side, 0.02, 0.5), (foot, 0.5, 0.03)):
            axis.text(x, y, text, transform=axis.transAxes, color="#ffe119", fontsize=9, va="center", ha="center")
        axis.axis("off")
    figure.suptitle(case, color=_INK, fontsize=12, x=0.02, ha="left", parse_math=False)
    x = 0.02
    for index, name in enumerate(classes.values()):
        text = f"{name} {volumes_ml.get(name, 0.0):.2f} mL"
        colour = _COLOURS[index % len(_COLOURS)]
        figure.text(x, 0.06, text, color=colour, fontsize=10, parse_math=False)
        x += 0.03 + 0.0075 * len(text)
    if not mask.any():
        figure.text(0.5, 0.06, "nothing found", color="#ffcc66", fontsize=11, ha="center")
    if warnings:
        text = "; ".join(warnings)
        shown = text if len(text) < 170 else f"{text[:169]}…"
        figure.text(0.02, 0.015, shown, color="#ffcc66", fontsize=8, parse_math=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.86, bottom=0.12, wspace=0.03)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=_BACKGROUND, metadata={"Software": None})


def _as_ras(
    image: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Return views of image and mask with axes closest to R, A, S, and the spacing along these."""
    turn = _orientations.io_orientation(affine)
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turn[:, 0])]
    turned = [_orientations.apply_orientation(array, turn) for array in (image, mask)]
    return turned[0], turned[1], (float(x), float(y), float(z))


def _centre(mask: np.ndarray) -> tuple[int, ...]:
    """Return for each axis the plane with most voxels of the result, the middle one where there is none."""
    found = mask != 0
    centre = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(found, axis=others)
        centre.append(int(counts.argmax()) if counts.any() else mask.shape[axis] // 2)
    return tuple(centre)


def _window(image: np.ndarray) -> tuple[float, float]:
    """Return the grey values shown black and white: percentiles 0.5 and 99.5 of at most about a million voxels."""
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    low, high = np.percentile(image[::step, ::step, ::step].astype(np.float32), [0.5, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0
