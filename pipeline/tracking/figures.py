"""The curves of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.records.metrics import metric_of
from pipeline.tracking.metric_points import CURVES, Point


def write_curves(title: str, points: Sequence[Point], path: Path) -> None:
    """Draw training loss and validation curves, one line for each class, over steps."""
    figure = Figure(figsize=(12, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(CURVES) + 1)
    _draw(axes[0], points, "train/loss", "")
    axes[0].set_title("Training loss")
    for axis, metric in zip(axes[1:], CURVES, strict=True):
        for key in dict.fromkeys(point.key for point in points):
            if key.startswith("val/") and key.endswith(f"/{metric}"):
                _draw(axis, points, key, key.split("/")[1] if key.count("/") == 2 else "mean")
        axis.set_title(metric_of(metric).heading)
        if axis.lines:
            axis.legend(fontsize=7)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=90)


def _draw(axis: object, points: Sequence[Point], key: str, label: str) -> None:
    found = sorted((point.step, point.value) for point in points if point.key == key)
    if found:
        steps, values = zip(*found, strict=True)
        bold = 2.0 if label == "mean" else 1.0
        axis.plot(steps, values, label=label, marker="." if len(found) < 30 else None, linewidth=bold)  # type: ignore[attr-defined]
