"""Pictures of cases: outlines of reference and prediction on the image, in R, A, S orientation.

A picture is an inline SVG: the image as PNG in its own voxels, stretched to mm, and outlines that follow the voxels of
the masks exactly. An image that appears several times is embedded once.
"""

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.pairing import Paired
from pipeline.references.check import Doubtful
from pipeline.references.volumes import PLANES, Volume, Volumes
from pipeline.report.figures import Styles
from pipeline.report.svg import joined, tag
from pipeline.report.wording import metric_name, number

BUDGET_BYTES = 3_000_000
MAXIMUM_LOSSES = 6
MAXIMUM_DOUBTFUL = 4
REFERENCE_COLOR = "#FFE066"


@dataclass(frozen=True, slots=True)
class Picture:
    """One slice with its outlines and what is said beneath it."""

    svg: Markup
    heading: str
    caption: str
    loss: str


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures shown together."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass
class Overlays:
    """All pictures of a report, the images they share, and what could not be shown."""

    doubtful: list[Row] = field(default_factory=list)
    extremes: list[Row] = field(default_factory=list)
    differences: list[Row] = field(default_factory=list)
    images: dict[str, Markup] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    losses_left_out: list[str] = field(default_factory=list)
    bytes: int = 0

    @property
    def definitions(self) -> Markup:
        """The images that the pictures refer to."""
        return joined(list(self.images.values()))

    def image_of(self, pixels: NDArray[np.uint8]) -> str:
        """Return the id of an image (rows, columns), embedding it once."""
        data = base64.b64encode(grey_png(pixels)).decode()
        name = f"image{zlib.crc32(data.encode()):08x}"
        if name not in self.images:
            self.bytes += len(data)
            height, width = pixels.shape
            self.images[name] = tag(
                "image",
                id=name,
                width=float(width),
                height=float(height),
                href=f"data:image/png;base64,{data}",
                preserveAspectRatio="none",
            )
        return name


def make_overlays(evidence: Evidence, styles: Styles) -> Overlays:
    """Return pictures of the best, median and worst case of each loss and of the cases where losses differ most.

    Before them come doubtful references as they are and as they would suit better: case, words and change of each.

    Whatever file is gone is said in `missing`; nothing is raised for it.
    """
    result, reader = Overlays(), evidence.volumes
    paired = evidence.paired.get(evidence.primary)
    if paired is None:
        return result
    shown = paired.best_first(evidence.verdict.recommended)[:MAXIMUM_LOSSES]
    result.losses_left_out = [loss for loss in paired.losses if loss not in shown]
    for item in evidence.references.doubtful[:MAXIMUM_DOUBTFUL]:
        pictures = _before_and_after(result, reader, item, shown[0], styles)
        if pictures:
            result.doubtful.append(Row(item.case, tuple(pictures)))
    for loss in shown:
        pictures = []
        for heading, index in _extremes(paired, paired.losses.index(loss)):
            pictures += _case_pictures(result, reader, paired, index, [loss], styles, heading=heading)
        if pictures:
            result.extremes.append(Row(loss, tuple(pictures)))
    for index in _most_different(paired, shown):
        pictures = _case_pictures(result, reader, paired, index, shown, styles, planes=3)
        if pictures:
            spread = np.ptp(paired.values[[paired.losses.index(loss) for loss in shown], index])
            title = f"{paired.cases[index]}: losses up to {number(float(spread), paired.metric)} apart"
            result.differences.append(Row(f"{title} in {metric_name(paired.metric)}", tuple(pictures)))
    result.missing = sorted(reader.missing)
    if result.bytes > BUDGET_BYTES:
        result.missing.append("more pictures, since the page would become too large")
    return result


def _extremes(paired: Paired, loss: int) -> list[tuple[str, int]]:
    """Return the best, median and worst case of a loss."""
    values = paired.values[loss] if paired.higher_is_better else -paired.values[loss]
    order = np.argsort(-values, kind="stable")
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    return [(heading, int(order[place])) for heading, place in places.items()]


def _most_different(paired: Paired, shown: Sequence[str], count: int = 4) -> list[int]:
    if len(shown) < 2:
        return []
    spread = np.ptp(paired.values[[paired.losses.index(loss) for loss in shown]], axis=0)
    return [int(i) for i in np.argsort(-spread, kind="stable")[:count] if spread[i] > 0]


def _case_pictures(
    result: Overlays,
    reader: Volumes,
    paired: Paired,
    index: int,
    losses: Sequence[str],
    styles: Styles,
    *,
    heading: str = "",
    planes: int = 1,
) -> list[Picture]:
    """Return pictures of one case, on the same slices for all losses.

    With a heading the slice holds most of the structure, without one most of the disagreement.
    """
    case = paired.cases[index]
    volume = reader.volume(case)
    if volume is None or result.bytes > BUDGET_BYTES:
        return []
    masks = reader.predictions(losses, case, volume.reference.shape)
    reader.missing.update(f"the prediction of {loss} for {case}" for loss in losses if loss not in masks)
    if not masks:
        return []
    box, slices = _view(volume, list(masks.values()), 1.0 if heading else 1e-3, planes)
    pictures = []
    for loss, mask in masks.items():
        value = number(float(paired.values[paired.losses.index(loss), index]), paired.metric)
        for axis, place in slices.items():
            svg = _picture(result, volume, mask, axis, place, box, styles[loss].bright)
            heading_here = f"{heading} {value}" if heading else f"{loss} {value}"
            caption = f"{case}, {PLANES[axis]}" if heading else PLANES[axis]
            pictures.append(Picture(svg, heading_here, caption, loss))
    return pictures


def _before_and_after(result: Overlays, reader: Volumes, item: Doubtful, loss: str, styles: Styles) -> list[Picture]:
    """Return pictures of the reference as it is and after the change, with the prediction of one loss."""
    volume = reader.volume(item.case)
    if volume is None or result.bytes > BUDGET_BYTES:
        return []
    mask = reader.predictions([loss], item.case, volume.reference.shape).get(loss)
    if mask is None:
        return []
    box, slices = _view(volume, [mask], 1.0, planes=3)
    changed = replace(volume, reference=np.asarray(item.suspicion.change.applied_to(volume.reference), dtype=np.int16))
    return [
        Picture(_picture(result, shown, mask, axis, place, box, styles[loss].bright), heading, PLANES[axis], loss)
        for heading, shown in (("as it is", volume), (item.words, changed))
        for axis, place in slices.items()
    ]


def _view(
    volume: Volume, masks: Sequence[NDArray[np.int16]], of_structure: float, planes: int
) -> tuple[tuple[slice, slice, slice], dict[int, int]]:
    """Return the box to show and the slice across each axis with the most disagreement and, so weighted, structure."""
    wrong = np.sum([mask != volume.reference for mask in masks], axis=0)
    weight = wrong + of_structure * (volume.reference > 0)
    box = _box(np.logical_or(weight > 0, np.any([mask > 0 for mask in masks], axis=0)), volume.spacing_mm)
    axes = [2, 1, 0] if planes == 3 else [_through_plane(volume.spacing_mm)]
    across = {axis: tuple(other for other in range(3) if other != axis) for axis in axes}
    return box, {axis: int(weight.sum(axis=across[axis]).argmax()) for axis in axes}


def _through_plane(spacing_mm: Sequence[float]) -> int:
    """Return the axis across the finest plane; axial where none is finer."""
    return max((2, 1, 0), key=lambda axis: round(spacing_mm[axis], 2))


def _box(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[slice, slice, slice]:
    """Return a box around all structures with room of a fifth and at least 5 mm on each side."""
    ranges = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, mask.shape[axis])
        room = max(round(0.2 * (high - low)), int(np.ceil(5 / spacing_mm[axis])))
        ranges.append(slice(max(0, low - room), min(mask.shape[axis], high + room)))
    return ranges[0], ranges[1], ranges[2]


def _picture(
    result: Overlays,
    volume: Volume,
    mask: NDArray[np.int16],
    axis: int,
    slice_index: int,
    box: tuple[slice, slice, slice],
    color: str,
) -> Markup:
    where: list[Any] = list(box)
    where[axis] = slice_index
    # As radiologists view it: anterior or superior is up, the patient's right (sagittal: anterior) on the left.
    plane = [np.asarray(a[tuple(where)]).T[::-1, ::-1] for a in (volume.image, volume.reference, mask)]
    low, high = np.percentile(plane[0], [1, 99.5])
    grey = np.clip((plane[0] - low) / max(high - low, 1e-6), 0, 1)
    name = result.image_of(np.asarray(grey * 255, dtype=np.uint8))
    across, down = (volume.spacing_mm[a] for a in range(3) if a != axis)
    rows, columns = grey.shape
    lines = [
        tag("path", d=outlines(plane[1]), stroke=REFERENCE_COLOR, class_="outline reference"),
        tag("path", d=outlines(plane[2]), stroke=color, class_="outline"),
    ]
    result.bytes += sum(map(len, lines))
    content = tag("g", tag("use", href=f"#{name}"), *lines, transform=f"scale({across:.4g} {down:.4g})")
    return tag(
        "svg",
        content,
        class_="overlay",
        viewBox=f"0 0 {columns * across:.2f} {rows * down:.2f}",
        role="img",
        aria_label="outlines of reference and prediction",
    )


def outlines(labels: NDArray[np.int16]) -> str:
    """Return the edges between pixels of different labels as an SVG path, in pixels of (rows, columns)."""
    padded = np.pad(labels, 1)
    parts = []
    for row in range(padded.shape[0] - 1):
        parts += [f"M{a} {row}H{b}" for a, b in _runs(padded[row, 1:-1] != padded[row + 1, 1:-1])]
    for column in range(padded.shape[1] - 1):
        parts += [f"M{column} {a}V{b}" for a, b in _runs(padded[1:-1, column] != padded[1:-1, column + 1])]
    return "".join(parts)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return starts and ends of the stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def grey_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image (rows, columns) as an 8-bit greyscale PNG (RFC 2083)."""
    rows, columns = pixels.shape
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), pixels], axis=1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
