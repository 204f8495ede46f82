"""References that all losses contradict alike: after a change they would suit every prediction much better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.records.reference_check import DoubtfulReference, ReferenceCheck
from pipeline.references.changes import Change, Suspicion, suspected_change
from pipeline.references.volumes import PLANES, Volumes

TOWARDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Directions of a negative and a positive shift along each axis of a volume in R, A, S orientation."""

FEWEST, MOST = 20, 50
"""Cases to check, those with the lowest Dice: a quarter of all, within these limits."""

MOST_LOSSES = 6
"""Losses whose predictions are compared with a reference."""

MOST_VOXELS = 1_000_000_000
"""Voxels of references and predictions together, which take about two minutes. No further case is begun beyond."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A reference to look at, and the change that would make it suit the predictions; `shift_mm` is R, A, S."""

    case: str
    suspicion: Suspicion
    shift_mm: tuple[float, float, float]
    words: str


@dataclass(frozen=True, slots=True)
class CheckedReferences:
    """How many references were checked, and the doubtful ones, those with the most to gain first."""

    checked: int = 0
    doubtful: tuple[Doubtful, ...] = ()

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
    """Compare references with what all losses predicted out of fold.

    Parameters
    ----------
    cases
        All cases of the study, the one with the lowest Dice first. Cases whose files are gone are not checked.
    losses
        Losses to compare with, the most important first; the first six are used.
    volumes
        Reader of references and predictions.
    classes
        Name of each label value.
    """
    checked, voxels, doubtful = 0, 0, []
    for case in cases[: min(max(FEWEST, len(cases) // 4), MOST)]:
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
            doubtful.append(Doubtful(case, suspicion, (x, y, z), words))
    doubtful.sort(key=lambda item: item.suspicion.dice - item.suspicion.dice_changed)
    return CheckedReferences(checked, tuple(doubtful))


def _words(change: Change, shift_mm: tuple[float, float, float], classes: Mapping[str, str]) -> str:
    """Return the change that would make the reference suit the predictions."""
    if change.classes is not None:
        return "{} and {} exchanged".format(*(classes.get(str(value), str(value)) for value in change.classes))
    if change.axis is not None:
        return f"mirrored across the {PLANES[change.axis]} plane"
    steps = [f"{abs(by):.1f} mm {words[by > 0]}" for by, words in zip(shift_mm, TOWARDS, strict=True) if by]
    return f"moved {', '.join(steps)}"
