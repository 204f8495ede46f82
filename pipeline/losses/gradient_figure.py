"""The figure of `whichloss losses --plot`."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.losses.gradients import Panel, gradient_panels
from pipeline.system.files import atomic_path

COLORS = ("#440154", "#31688e", "#35b779", "#d99a00")
"""Dark to light, distinguishable with color blindness and in gray."""


def draw_gradients(path: Path) -> None:
    """Draw the gradients of cross entropy and both Dice forms over p and t, formulas as lines and autograd as dots.

    Parameters
    ----------
    path
        File to write; its suffix is one that matplotlib supports, such as .png or .svg.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # pyplot is avoided: it holds global state and may need a display.
    figure = Figure(figsize=(11, 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = gradient_panels()
    for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
        _draw(axes, panel)
    cross_entropy, dice, dice_squared, sizes = figure.axes
    cross_entropy.set_ylim(-1.1, 1.3)
    for axes in (dice, dice_squared, sizes):
        axes.set_xscale("log")
    dice.set_ylim(-0.1, 2.9)
    dice_squared.set_yscale("symlog", linthresh=1)
    dice_squared.set_ylim(-1e3, 1e5)
    sizes.set_yscale("log")
    sizes.set_ylim(1e-5, 20)
    figure.suptitle("Gradients: closed form (lines) and autograd (dots)")
    # A fixed salt and no date give equal bytes in every call. Text stays text, so that it can be searched.
    with matplotlib.rc_context({"svg.hashsalt": "segloss", "svg.fonttype": "none"}), atomic_path(path) as temporary:
        kind = path.suffix.removeprefix(".").lower()
        figure.savefig(temporary, dpi=120, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _draw(axes: Axes, panel: Panel) -> None:
    for curve, color in zip(panel.curves, COLORS, strict=False):
        axes.plot(curve.x, curve.y, color=color, label=curve.label, gid=f"closed form {curve.label}")
        axes.plot(curve.at, curve.autograd, "o", color=color, markersize=4, gid=f"autograd {curve.label}")
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_title(f"{panel.title}\n{panel.formula}", fontsize=11)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.text(0.02, 0.98, panel.remark, transform=axes.transAxes, va="top", fontsize=9, style="italic")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right" if panel.title == "Cross entropy" else "upper right")
