"""Outlines of reference and prediction on the image, for the worst, median and best case of a run."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from pipeline.records.folder import RunFolder
from pipeline.records.table import read_table

REFERENCE_COLOUR, PREDICTION_COLOUR = "#ffe066", "#00b4d8"


def write_overlays(folder: RunFolder, cases: Mapping[str, Any], classes: Sequence[int], into: Path) -> None:
    """Write worst.png, median.png and best.png by mean Dice; a case whose files cannot be read any more is left out."""
    for rank, case, dice in ranked_cases(read_table(folder.cases)):
        prediction = folder.predictions / f"{case}.nii.gz"
        images, label = cases.get(case, {}).get("images"), cases.get(case, {}).get("label")
        if not images or not label or not all(Path(path).exists() for path in (prediction, images[0], label)):
            continue
        try:
            volumes = [_volume(Path(path)) for path in (images[0], label, prediction)]
        except (OSError, EOFError, zlib.error, ImageFileError):
            continue
        spacing = volumes[0][1]
        image, reference, mask = (voxels for voxels, _ in volumes)
        if image.shape == reference.shape == mask.shape:
            into.mkdir(exist_ok=True)
            heading = f"{rank} of this run: mean Dice {dice:.3f}"
            _draw(image, reference, mask, spacing, classes, heading, into / f"{rank}.png")


def ranked_cases(table: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Return (worst, median or best; case; mean Dice over its classes), fewer where there are fewer cases."""
    dice = table[(table["metric"] == "dice") & table["value"].notna()]
    means = dice.groupby("case")["value"].mean().sort_values(kind="stable")
    if means.empty:
        return []
    places = {"worst": 0, "best": len(means) - 1, "median": len(means) // 2}
    chosen: dict[str, tuple[str, str, float]] = {}
    for rank, place in places.items():
        case = str(means.index[place])
        chosen.setdefault(case, (rank, case, float(means.iloc[place])))
    return list(chosen.values())


def widest_slice(reference: NDArray[Any], mask: NDArray[Any]) -> int:
    """Return the index on the last axis where the reference, or else the prediction, has most foreground."""
    for labels in (reference, mask):
        areas = (labels > 0).sum(axis=(0, 1))
        if areas.any():
            return int(areas.argmax())
    return int(reference.shape[2]) // 2


def _volume(path: Path) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Return voxels near R, A, S orientation, first channel, and their spacing in mm."""
    volume: Any = nib.as_closest_canonical(nib.load(path))  # type: ignore[no-untyped-call]
    voxels = np.asanyarray(volume.dataobj)
    while voxels.ndim > 3:
        voxels = voxels[..., 0]
    return voxels, tuple(float(edge) for edge in volume.header.get_zooms()[:3])


def _draw(
    image: NDArray[Any],
    reference: NDArray[Any],
    mask: NDArray[Any],
    spacing: tuple[float, ...],
    classes: Sequence[int],
    heading: str,
    path: Path,
) -> None:
    index = widest_slice(reference, mask)
    plane = image[:, :, index].T.astype(float)
    low, high = np.percentile(image, (0.5, 99.5))
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=spacing[1] / spacing[0])
    for labels, colour in ((reference, REFERENCE_COLOUR), (mask, PREDICTION_COLOUR)):
        for value in classes:
            outline = (labels[:, :, index] == value).T.astype(float)
            if outline.any() and not outline.all():
                axis.contour(outline, levels=[0.5], colors=[colour], linewidths=1.2)
    axis.set_title(f"{heading}\nyellow: reference, blue: prediction", fontsize=9)
    axis.set_axis_off()
    figure.savefig(path, dpi=90)
