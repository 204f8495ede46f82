"""Pictures of one run as SVG files of their own: learning curves, and outlines of its worst, median and best case.

They show no names of cases or files, so that they can be shared with the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from pipeline.records.events import Event, TrainEvent, ValidationEvent
from pipeline.records.folder import RunFolder
from pipeline.records.metrics import metric_of
from pipeline.records.study import CaseFiles
from pipeline.records.table import read_table
from pipeline.references.volumes import PLANES, read_labels, read_volume
from pipeline.report.curves import HEIGHT, Curve, class_mean, curve_panel, points_of
from pipeline.report.formatting import shortened
from pipeline.report.slices import choose_view, image_element, png_address, slice_picture
from pipeline.report.styles import LossStyle, Styles, styles_of
from pipeline.report.svg import WIDTH, element, legend, standalone_figure, text
from pipeline.system.files import write_text

CURVES = ("dice", "hausdorff95_mm", "hausdorff_mm")
"""Metrics of a validation during training."""

MEAN = "mean of classes"
PICTURE_WIDTH, HEADING_HEIGHT = 480.0, 52.0


def write_curves(title: str, events: Sequence[Event], path: Path) -> None:
    """Write training loss and validation curves over steps, one line for each class, as an SVG file.

    Parameters
    ----------
    title
        Heading, e.g. the name of the run.
    events
        Events of the run, in order; after a restart only the last training is shown.
    path
        File to write.
    """
    loss = Curve(MEAN, "training loss", points_of(events, TrainEvent, lambda event: event.loss))
    panels = [("Training loss", [loss] if loss.points else [])]
    panels += [(metric_of(metric).heading, _class_curves(events, metric)) for metric in CURVES]
    names = dict.fromkeys(curve.series for _, curves in panels for curve in curves)
    styles = styles_of([MEAN, *names])
    drawn = [
        element("g", _panel(heading, curves, styles), class_="one-run", transform=f"translate({WIDTH * column} 56)")
        for column, (heading, curves) in enumerate(panels)
    ]
    heading = text(12, 20, title, class_="title")
    width, height = WIDTH * len(panels), 56 + HEIGHT + 34
    figure = standalone_figure(
        width, height, f"learning curves of {title}", heading, *drawn, legend(styles, list(names), 12, height - 12)
    )
    write_text(path, figure)


def _class_curves(events: Sequence[Event], metric: str) -> list[Curve]:
    """Return the mean over classes of a validation metric, if there are several, and the curve of each class."""
    validations = [event for event in events if isinstance(event, ValidationEvent)]
    classes = list(dict.fromkeys(name for event in validations for name in event.by_class(metric)))

    def of_class(name: str) -> Callable[[ValidationEvent], float | None]:
        return lambda event: event.by_class(metric).get(name)

    curves = [Curve(name, name, points_of(events, ValidationEvent, of_class(name))) for name in classes]
    if len(classes) > 1:
        curves.insert(0, Curve(MEAN, MEAN, points_of(events, ValidationEvent, class_mean(metric))))
    return [curve for curve in curves if curve.points]


def _panel(heading: str, curves: Sequence[Curve], styles: Styles) -> Markup:
    plot = curve_panel(curves, styles) if curves else text(46, HEIGHT / 2, "not recorded", class_="tick")
    return element("g", text(46, -8, heading, class_="name"), plot)


@dataclass(frozen=True, slots=True)
class RankedCase:
    """The worst, median or best case of a run by its mean Dice over classes."""

    rank: str
    case: str
    dice: float


def ranked_cases(table: pd.DataFrame) -> list[RankedCase]:
    """Return the worst, best and median case of a long table; fewer if there are fewer cases with a Dice value.

    Examples
    --------
    >>> rows = [("a", "dice", 0.9), ("b", "dice", 0.1)]
    >>> [item.case for item in ranked_cases(pd.DataFrame(rows, columns=["case", "metric", "value"]))]
    ['b', 'a']
    """
    dice = table[(table["metric"] == "dice") & table["value"].notna()]
    means = dice.groupby("case")["value"].mean().sort_values(kind="stable")
    if means.empty:
        return []
    ranked: dict[str, RankedCase] = {}
    for rank, place in {"worst": 0, "best": len(means) - 1, "median": len(means) // 2}.items():
        case = str(means.index[place])
        ranked.setdefault(case, RankedCase(rank, case, float(means.iloc[place])))
    return list(ranked.values())


def write_overlays(folder: RunFolder, cases: Mapping[str, CaseFiles], into: Path) -> None:
    """Write ``worst.svg``, ``median.svg`` and ``best.svg``: outlines of reference and prediction on the image.

    A case whose files cannot be read is left out.

    Parameters
    ----------
    folder
        A finished run with its table and predictions.
    cases
        Files of each case.
    into
        Folder for the pictures; it is created if there is any.
    """
    for item in ranked_cases(read_table(folder.cases)):
        volume = read_volume(cases.get(item.case, CaseFiles()))
        labels = read_labels(folder.predictions / f"{item.case}.nii.gz")
        if volume is None or labels is None or labels[0].shape != volume.reference.shape:
            continue
        mask, _ = labels
        view = choose_view(volume, [mask], structure_weight=1.0)
        (axis,) = view.slices
        picture = slice_picture(volume, mask, view, axis)
        width_mm, height_mm = picture.size_mm
        height = PICTURE_WIDTH * height_mm / width_mm
        image = image_element(png_address(picture.pixels), picture.pixels.shape)
        heading = f"{item.rank} case of this run: mean Dice {item.dice:.3f}"
        caption = f"yellow: reference, blue: prediction; {PLANES[axis]} slice"
        figure = standalone_figure(
            PICTURE_WIDTH,
            height + HEADING_HEIGHT,
            heading,
            text(12, 20, shortened(heading, 60), class_="title"),
            text(12, 40, caption, class_="tick"),
            picture.svg(image, LossStyle(0).bright, x=0.0, y=HEADING_HEIGHT, width=PICTURE_WIDTH, height=height),
        )
        write_text(into / f"{item.rank}.svg", figure)
