"""References that all losses contradict alike: they would suit every prediction better elsewhere or otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.references.changes import Change, Suspicion, suspected_change
from pipeline.references.volumes import Volumes
from pipeline.report.evidence import Evidence, verdict_without
from pipeline.report.overlays import PLANES, shown_losses
from pipeline.report.tables import Cell, Table, value_cell

TOWARDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Where a negative and a positive shift along each axis of a volume in R, A, S orientation lead."""

FEWEST, MOST = 20, 50
"""Cases to check, those with the lowest Dice: a quarter of all, within these."""

MOST_VOXELS = 1_000_000_000
"""Of references and predictions together: some two minutes. No case is begun beyond."""

NAMED = 5
"""Cases that the caveat names."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A reference to look at, and what would make it suit the predictions."""

    case: str
    suspicion: Suspicion
    shift_mm: tuple[float, float, float]
    words: str


@dataclass(frozen=True, slots=True)
class CheckedReferences:
    """How many references were checked, and the doubtful ones, those with the most to gain first."""

    checked: int
    doubtful: tuple[Doubtful, ...]
    without: str = ""
    """What the study says without the doubtful ones; empty where they are too many to do without."""

    @property
    def caveats(self) -> list[str]:
        """What the verdict says of them: nothing where there are none."""
        if not self.doubtful:
            return []
        named = [f"{item.case} ({item.words})" for item in self.doubtful[:NAMED]]
        more = len(self.doubtful) - len(named)
        return [
            f"Predictions of all losses would suit these references much better after a change: {', '.join(named)}"
            f"{f' and {more} more' if more else ''}. Look at them beside their images. {self.without}".rstrip()
        ]

    def table(self) -> Table:
        """Return what would make each doubtful reference suit the predictions, and by how much."""
        table = Table("", ("case", "would suit better", "Dice with the losses", "then", "between the losses"))
        for item in self.doubtful:
            found = (item.suspicion.dice, item.suspicion.dice_changed, item.suspicion.agreement)
            names = [Cell(text, text) for text in (item.case, item.words)]
            table.rows.append([*names, *map(value_cell, found)])
        return table

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; shifts are in mm towards right, anterior and superior."""
        return {
            "checked": self.checked,
            "without": self.without,
            "doubtful": [
                {
                    "case": item.case,
                    "words": item.words,
                    "kind": item.suspicion.change.kind,
                    "shift_mm_ras": list(item.shift_mm),
                    "dice": item.suspicion.dice,
                    "dice_changed": item.suspicion.dice_changed,
                    "agreement": item.suspicion.agreement,
                }
                for item in self.doubtful
            ],
        }


def check_references(evidence: Evidence, volumes: Volumes) -> CheckedReferences:
    """Compare the references of the cases with the lowest Dice with what all losses predicted out of fold.

    Cases whose files are gone are not checked, nor is any where there is one loss alone.
    """
    paired = evidence.paired.get("dice")
    if paired is None or len(paired.losses) < 2:
        return CheckedReferences(0, ())
    losses = shown_losses(paired, evidence.verdict.get("recommended"))
    count = min(max(FEWEST, len(paired.cases) // 4), MOST)
    classes = evidence.settings.get("dataset", {}).get("classes", {})
    checked, voxels, doubtful = 0, 0, []
    for index in np.argsort(paired.values.mean(axis=0), kind="stable")[:count]:
        if voxels >= MOST_VOXELS:
            break
        case = paired.cases[int(index)]
        found = volumes.reference(case)
        if found is None:
            continue
        reference, spacing_mm = found
        predictions = list(volumes.predictions(losses, case, reference.shape).values())
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
    names = [item.case for item in doubtful]
    few = 0 < len(names) <= len(paired.cases) // 2
    return CheckedReferences(checked, tuple(doubtful), _without(evidence, names) if few else "")


def _without(evidence: Evidence, cases: Sequence[str]) -> str:
    """Return in a sentence what the study says without some of its cases."""
    verdict = verdict_without(evidence, cases)
    same = all(verdict[name] == evidence.verdict[name] for name in ("verdict", "recommended"))
    return "Without them the verdict is the same." if same else f"Without them: {verdict['words'][0]}"


def _words(change: Change, shift_mm: tuple[float, float, float], classes: Mapping[str, str]) -> str:
    """Return what would make the reference suit the predictions."""
    if change.classes is not None:
        return "{} and {} exchanged".format(*(classes.get(str(value), str(value)) for value in change.classes))
    if change.axis is not None:
        return f"mirrored across the {PLANES[change.axis]} plane"
    steps = [f"{abs(by):.1f} mm {words[by > 0]}" for by, words in zip(shift_mm, TOWARDS, strict=True) if by]
    return f"moved {', '.join(steps)}"
