"""Slices of a case with outlines of reference and prediction, as SVG.

A picture is the image as PNG in its own voxels, stretched to mm, with outlines that follow the voxels of the masks
exactly. Slices are shown as radiologists view them: anterior or superior is up, and the patient's right (in sagittal
slices: anterior) is on the left.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from pipeline.references.volumes import Labels, Volume
from pipeline.report.svg import element

REFERENCE_COLOR = "#FFE066"

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class View:
    """The part of a volume to show: a box, and for each axis to look along, the index of the slice."""

    box: Box
    slices: dict[int, int]


@dataclass(frozen=True, slots=True)
class SlicePicture:
    """One slice, ready to be drawn.

    Attributes
    ----------
    pixels
        Gray values (rows, columns), 0 to 255.
    reference, prediction
        Outlines as SVG paths in pixels.
    pixel_mm
        Width and height of a pixel in mm.
    """

    pixels: NDArray[np.uint8]
    reference: str
    prediction: str
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice in mm."""
        rows, columns = self.pixels.shape
        return columns * self.pixel_mm[0], rows * self.pixel_mm[1]

    def svg(self, image: Markup, color: str, **place: float) -> Markup:
        """Return the slice as an ``svg`` element in mm.

        Parameters
        ----------
        image
            Element that draws the pixels, one unit each: `image_element`, or a ``use`` of one.
        color
            Color of the outline of the prediction.
        place
            ``x``, ``y``, ``width`` and ``height`` inside a larger figure.
        """
        lines = [
            element("path", d=self.reference, stroke=REFERENCE_COLOR, class_="outline reference"),
            element("path", d=self.prediction, stroke=color, class_="outline"),
        ]
        across, down = self.pixel_mm
        width, height = self.size_mm
        return element(
            "svg",
            element("g", image, *lines, transform=f"scale({across:.4g} {down:.4g})"),
            class_="overlay",
            viewBox=f"0 0 {width:.2f} {height:.2f}",
            role="img",
            aria_label="outlines of reference and prediction",
            **place,
        )


def choose_view(volume: Volume, masks: Sequence[Labels], structure_weight: float, planes: int = 1) -> View:
    """Return a box around all structures and the slices that show most of the disagreement and of the structure.

    Parameters
    ----------
    volume
        Image and reference of the case.
    masks
        Predictions on the same grid.
    structure_weight
        Weight of a voxel of the reference; a voxel that one mask gets wrong has weight 1.
    planes
        3 for all planes, 1 for the plane with the smallest voxels (axial if there is none).
    """
    wrong = np.sum([mask != volume.reference for mask in masks], axis=0)
    weight = wrong + structure_weight * (volume.reference > 0)
    box = _box(np.logical_or(weight > 0, np.any([mask > 0 for mask in masks], axis=0)), volume.spacing_mm)
    axes = [2, 1, 0] if planes == 3 else [_through_plane(volume.spacing_mm)]
    others = {axis: tuple(other for other in range(3) if other != axis) for axis in axes}
    return View(box, {axis: int(weight.sum(axis=others[axis]).argmax()) for axis in axes})


def _through_plane(spacing_mm: Sequence[float]) -> int:
    """Return the axis across the plane with the smallest voxels; axial if all planes are alike."""
    return max((2, 1, 0), key=lambda axis: round(spacing_mm[axis], 2))


def _box(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Box:
    """Return a box around all structures with a margin of a fifth, at least 5 mm, on each side."""
    ranges = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, mask.shape[axis])
        margin = max(round(0.2 * (high - low)), int(np.ceil(5 / spacing_mm[axis])))
        ranges.append(slice(max(0, low - margin), min(mask.shape[axis], high + margin)))
    return ranges[0], ranges[1], ranges[2]


def slice_picture(volume: Volume, mask: Labels, view: View, axis: int) -> SlicePicture:
    """Return the slice of a view across one axis; gray values span the percentiles 1 to 99.5 of the slice."""
    where: list[Any] = list(view.box)
    where[axis] = view.slices[axis]
    image, reference, prediction = (
        np.asarray(voxels[tuple(where)]).T[::-1, ::-1] for voxels in (volume.image, volume.reference, mask)
    )
    low, high = np.percentile(image, [1, 99.5])
    gray = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    across, down = (volume.spacing_mm[a] for a in range(3) if a != axis)
    return SlicePicture(
        np.asarray(gray * 255, dtype=np.uint8), outline_path(reference), outline_path(prediction), (across, down)
    )


def outline_path(labels: Labels) -> str:
    """Return the edges between pixels of different labels (rows, columns) as an SVG path in pixels.

    Examples
    --------
    >>> outline_path(np.array([[0, 1]]))
    'M1 0H2M1 1H2M1 0V1M2 0V1'
    """
    padded = np.pad(labels, 1)
    parts = []
    for row in range(padded.shape[0] - 1):
        parts += [f"M{a} {row}H{b}" for a, b in _stretches(padded[row, 1:-1] != padded[row + 1, 1:-1])]
    for column in range(padded.shape[1] - 1):
        parts += [f"M{column} {a}V{b}" for a, b in _stretches(padded[1:-1, column] != padded[1:-1, column + 1])]
    return "".join(parts)


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and end of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def png_address(pixels: NDArray[np.uint8]) -> str:
    """Return gray values (rows, columns) as a ``data:`` address of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image_element(address: str, shape: tuple[int, ...], name: str | None = None) -> Markup:
    """Return an SVG image of (rows, columns) pixels, one unit each, with an id if it is to be used elsewhere."""
    rows, columns = shape
    return element("image", id=name, width=float(columns), height=float(rows), href=address, preserveAspectRatio="none")
