"""Which cases of a study are shown as pictures: doubtful references, best, median and worst cases, and differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from markupsafe import Markup

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.pairing import Paired
from pipeline.records.metrics import metric_of
from pipeline.references.check import SuspectedReference
from pipeline.references.volumes import PLANES, Volume, Volumes
from pipeline.report.formatting import number
from pipeline.report.slices import SlicePicture, choose_view, image_element, png_address, slice_picture
from pipeline.report.styles import Styles
from pipeline.report.svg import element, fragment

BUDGET_BYTES = 3_000_000
"""Size of all pictures of a page in bytes; no further case is drawn beyond it."""

MAXIMUM_LOSSES = 6
MAXIMUM_DOUBTFUL = 4
MAXIMUM_DIFFERENT = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One slice with its outlines, the heading of its group, its caption, and the loss that predicted it."""

    svg: Markup
    heading: str
    caption: str
    loss: str


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Pictures shown together."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Overlays:
    """All pictures of a report.

    Attributes
    ----------
    doubtful
        A row for each doubtful reference: slices as they are, then with the changed reference.
    extremes
        A row for each loss: its best, median and worst case.
    differences
        A row for each case in which the losses differ most.
    definitions
        The images that the pictures refer to.
    missing
        Descriptions of files that could not be shown.
    truncated
        True if pictures are left out because the page would become too large.
    losses_left_out
        Losses without pictures, because there are too many.
    """

    doubtful: tuple[PictureRow, ...] = ()
    extremes: tuple[PictureRow, ...] = ()
    differences: tuple[PictureRow, ...] = ()
    definitions: Markup = field(default_factory=Markup)
    missing: tuple[str, ...] = ()
    truncated: bool = False
    losses_left_out: tuple[str, ...] = ()


class ImageStore:
    """Images that several pictures of one page share; each is embedded once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._images: dict[str, tuple[str, Markup]] = {}

    @property
    def definitions(self) -> Markup:
        """The images, for a ``defs`` element."""
        return fragment([image for _, image in self._images.values()])

    def draw(self, picture: SlicePicture, color: str) -> Markup:
        """Return a slice that refers to its image here."""
        address = png_address(picture.pixels)
        if address not in self._images:
            name = f"image{len(self._images)}"
            self._images[address] = name, image_element(address, picture.pixels.shape, name)
            self.bytes += len(address)
        self.bytes += len(picture.reference) + len(picture.prediction)
        return picture.svg(element("use", href=f"#{self._images[address][0]}"), color)


def make_overlays(evidence: Evidence, styles: Styles) -> Overlays:
    """Return pictures of doubtful references, of extreme cases and of the cases where losses differ most.

    Files that cannot be read are listed in `missing`; they raise no error.
    """
    paired = evidence.paired.get(evidence.primary)
    if paired is None:
        return Overlays()
    painter = _CasePainter(evidence.volumes, paired, styles)
    shown = paired.best_first(evidence.verdict.recommended)[:MAXIMUM_LOSSES]
    doubtful = [
        PictureRow(item.case, painter.before_and_after(item, shown[0]))
        for item in evidence.references.doubtful[:MAXIMUM_DOUBTFUL]
    ]
    extremes = [PictureRow(loss, painter.extremes(loss)) for loss in shown]
    differences = [
        PictureRow(painter.spread_title(index, shown), painter.differences(index, shown))
        for index in _most_different(paired, shown)
    ]
    return Overlays(
        doubtful=tuple(row for row in doubtful if row.pictures),
        extremes=tuple(row for row in extremes if row.pictures),
        differences=tuple(row for row in differences if row.pictures),
        definitions=painter.store.definitions,
        missing=tuple(sorted(evidence.volumes.missing)),
        truncated=painter.store.bytes > BUDGET_BYTES,
        losses_left_out=tuple(loss for loss in paired.losses if loss not in shown),
    )


def _most_different(paired: Paired, shown: Sequence[str]) -> list[int]:
    """Return the indices of the cases in which the shown losses differ most."""
    if len(shown) < 2:
        return []
    spread = np.ptp(paired.values[[paired.losses.index(loss) for loss in shown]], axis=0)
    return [int(i) for i in np.argsort(-spread, kind="stable")[:MAXIMUM_DIFFERENT] if spread[i] > 0]


class _CasePainter:
    """Draws cases of one metric, until the budget of the page is used up."""

    def __init__(self, volumes: Volumes, paired: Paired, styles: Styles) -> None:
        self.volumes, self.paired, self.styles = volumes, paired, styles
        self.store = ImageStore()

    def extremes(self, loss: str) -> tuple[Picture, ...]:
        """Return the best, median and worst case of a loss, in the slice with most structure and disagreement."""
        values = self.paired.values[self.paired.losses.index(loss)]
        order = np.argsort(-values if self.paired.higher_is_better else values, kind="stable")
        places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
        pictures: list[Picture] = []
        for rank, place in places.items():
            index = int(order[place])
            case = self.paired.cases[index]
            for picture in self._case(index, [loss], structure_weight=1.0, planes=1):
                heading = f"{rank} {self._value(loss, index)}"
                pictures.append(replace(picture, heading=heading, caption=f"{case}, {picture.caption}"))
        return tuple(pictures)

    def differences(self, index: int, losses: Sequence[str]) -> tuple[Picture, ...]:
        """Return one case by several losses, in the slices with most disagreement in each plane."""
        return tuple(self._case(index, losses, structure_weight=1e-3, planes=3))

    def spread_title(self, index: int, losses: Sequence[str]) -> str:
        """Return by how much losses differ in a case."""
        spread = np.ptp(self.paired.values[[self.paired.losses.index(loss) for loss in losses], index])
        metric = self.paired.metric
        gap = number(float(spread), metric)
        return f"{self.paired.cases[index]}: losses up to {gap} apart in {metric_of(metric).heading}"

    def before_and_after(self, item: SuspectedReference, loss: str) -> tuple[Picture, ...]:
        """Return a reference as it is and after the change, with the prediction of one loss."""
        volume = self._volume(item.case)
        mask = None if volume is None else self.volumes.predictions([loss], item.case, volume.reference.shape).get(loss)
        if volume is None or mask is None:
            return ()
        reference = np.asarray(item.suspicion.change.applied_to(volume.reference), dtype=np.int16)
        changed = replace(volume, reference=reference)
        view = choose_view(changed, [mask, volume.reference], 1.0, planes=3)
        references = (("as it is", volume), (item.words, changed))
        return tuple(
            Picture(
                self.store.draw(slice_picture(shown, mask, view, axis), self.styles[loss].bright),
                heading,
                PLANES[axis],
                loss,
            )
            for heading, shown in references
            for axis in view.slices
        )

    def _case(self, index: int, losses: Sequence[str], structure_weight: float, planes: int) -> list[Picture]:
        """Return pictures of one case, on the same slices for all losses."""
        case = self.paired.cases[index]
        volume = self._volume(case)
        if volume is None:
            return []
        masks = self.volumes.predictions(losses, case, volume.reference.shape)
        self.volumes.missing.update(f"the prediction of {loss} for {case}" for loss in losses if loss not in masks)
        if not masks:
            return []
        view = choose_view(volume, list(masks.values()), structure_weight, planes)
        return [
            Picture(
                self.store.draw(slice_picture(volume, mask, view, axis), self.styles[loss].bright),
                f"{loss} {self._value(loss, index)}",
                PLANES[axis],
                loss,
            )
            for loss, mask in masks.items()
            for axis in view.slices
        ]

    def _volume(self, case: str) -> Volume | None:
        return None if self.store.bytes > BUDGET_BYTES else self.volumes.volume(case)

    def _value(self, loss: str, index: int) -> str:
        return number(float(self.paired.values[self.paired.losses.index(loss), index]), self.paired.metric)
