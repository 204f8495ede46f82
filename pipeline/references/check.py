"""Search for references that all losses contradict alike, and that would fit every prediction better after a change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.records.reference_check import DoubtfulReference, ReferenceCheck
from pipeline.references.changes import Change, Suspicion, suspected_change
from pipeline.references.volumes import PLANES, Volumes

TOWARDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Directions of a negative and a positive shift along each axis of a volume in R, A, S orientation."""

FEWEST_CASES, MOST_CASES = 20, 50
"""Limits of the number of cases to check: a quarter of all, those with the lowest Dice."""

MOST_LOSSES = 6
"""Number of losses whose predictions are compared with a reference."""

MOST_VOXELS = 1_000_000_000
"""Voxels of references and predictions after which no further case is checked; so many take about two minutes."""


@dataclass(frozen=True, slots=True)
class SuspectedReference:
    """A reference to look at.

    Attributes
    ----------
    case
        Name of the case.
    suspicion
        The change after which it would fit the predictions.
    shift_mm
        Shift in mm towards right, anterior and superior.
    words
        The change in words.
    """

    case: str
    suspicion: Suspicion
    shift_mm: tuple[float, float, float]
    words: str


@dataclass(frozen=True, slots=True)
class CheckedReferences:
    """Number of references that were checked, and the doubtful ones, the one with the largest gain in Dice first."""

    checked: int = 0
    doubtful: tuple[SuspectedReference, ...] = ()

    @property
    def outcome(self) -> ReferenceCheck:
        """The outcome as the verdict records it."""
        return ReferenceCheck(
            checked=self.checked,
            doubtful=tuple(
                DoubtfulReference(
                    case=item.case,
                    words=item.words,
                    kind=item.suspicion.change.kind,
                    shift_mm_ras=item.shift_mm,
                    dice=item.suspicion.dice,
                    dice_changed=item.suspicion.dice_changed,
                    agreement=item.suspicion.agreement,
                )
                for item in self.doubtful
            ),
        )


def check_references(
    cases: Sequence[str], losses: Sequence[str], volumes: Volumes, classes: Mapping[str, str]
) -> CheckedReferences:
    """Compare references with the out-of-fold predictions of all losses.

    Parameters
    ----------
    cases
        All cases of the study, the one with the lowest Dice first. Cases whose files cannot be read are skipped.
    losses
        Losses to compare with, the most important first; the first `MOST_LOSSES` are used.
    volumes
        Reader of references and predictions.
    classes
        Name of each label value.
    """
    checked, voxels, doubtful = 0, 0, []
    for case in cases[: min(max(FEWEST_CASES, len(cases) // 4), MOST_CASES)]:
        if voxels >= MOST_VOXELS:
            break
        found = volumes.reference(case)
        if found is None:
            continue
        reference, spacing_mm = found
        predictions = list(volumes.predictions(losses[:MOST_LOSSES], case, reference.shape).values())
        if len(predictions) < 2:
            continue
        checked += 1
        voxels += reference.size * (1 + len(predictions))
        suspicion = suspected_change(reference, predictions, spacing_mm)
        if suspicion is not None:
            x, y, z = (step * edge for step, edge in zip(suspicion.change.shift, spacing_mm, strict=True))
            words = _words(suspicion.change, (x, y, z), classes)
            doubtful.append(SuspectedReference(case, suspicion, (x, y, z), words))
    doubtful.sort(key=lambda item: item.suspicion.dice - item.suspicion.dice_changed)
    return CheckedReferences(checked, tuple(doubtful))


def _words(change: Change, shift_mm: tuple[float, float, float], classes: Mapping[str, str]) -> str:
    """Return a change in words, with the names of `classes` by label value."""
    if change.classes is not None:
        return "{} and {} exchanged".format(*(classes.get(str(value), str(value)) for value in change.classes))
    if change.axis is not None:
        return f"mirrored across the {PLANES[change.axis]} plane"
    steps = [f"{abs(by):.1f} mm {words[by > 0]}" for by, words in zip(shift_mm, TOWARDS, strict=True) if by]
    return f"moved {', '.join(steps)}"
