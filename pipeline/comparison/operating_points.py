"""Repeat the comparison with each loss at its own best threshold, to separate effects of losses from thresholds."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.comparison.difference import Difference
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import Comparison, compare_pairs, decide
from pipeline.comparison.resampling import units_of
from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.thresholds import ChosenThresholds, choose_thresholds
from pipeline.records.operating_points import (
    Change,
    OperatingPair,
    OperatingPoint,
    OperatingPoints,
    PointDifference,
    PointVerdict,
    ThresholdRange,
)
from pipeline.records.pair_result import pair_of

SMALL_REMAINDER = 0.25
"""Largest share of a difference that may remain if it is reported to have disappeared."""

SEPARATOR = "\0"
"""Separates loss and operating point in the names of arms; no name of a loss contains it."""


def operating_points(
    thresholds: pd.DataFrame,
    recommended: str,
    *,
    controls: Collection[str] = (),
    patients: Mapping[str, str] | None = None,
    settings: ComparisonSettings | None = None,
) -> OperatingPoints | None:
    """Compare the recommended loss with each other loss at 0.5 and at the best operating points.

    Parameters
    ----------
    thresholds
        As for `pipeline.comparison.thresholds.choose_thresholds`.
    recommended
        The loss that the verdict recommends.
    controls
        Arms that repeat a loss; they are compared, but are not candidates.
    patients
        Patient of each case; by default every case is a patient.
    settings
        Margins and confidence.

    Returns
    -------
    OperatingPoints or None
        Without sentences, which `pipeline.comparison.operating_words` writes. None if fewer than two losses, or not the
        recommended one, have results on common cases of at least two patients.

    Raises
    ------
    RecordError
        If the thresholds are malformed.
    """
    settings = settings or ComparisonSettings()
    if thresholds.empty or thresholds["loss"].nunique() < 2:
        return None
    chosen = choose_thresholds(thresholds, patients)
    # Both points are arms of one table, so that they are compared on the same classes of the same cases.
    arms = chosen.table.assign(loss=chosen.table["loss"] + SEPARATOR + chosen.table["point"])
    both = pair(usable_rows(arms.drop(columns="point"))[0], "dice")
    if both is None:
        return None
    half, best = (_at(both, point) for point in ("half", "best"))
    if recommended not in half.losses or units_of(half).patient_count < 2:
        return None
    at_half, at_best = (compare_pairs(item, settings.margins, settings.confidence) for item in (half, best))
    pairs = []
    for other in half.losses:
        if other == recommended:
            continue
        change = _change(half, best, (recommended, other), settings.confidence)
        points = _difference_at(at_half, recommended, other), _difference_at(at_best, recommended, other)
        pairs.append(
            OperatingPair(
                a=recommended,
                b=other,
                at_half=points[0],
                at_best=points[1],
                change=change.mean,
                change_ci_low=change.ci_low,
                change_ci_high=change.ci_high,
                says=kind_of_change(*points, change),
            )
        )
    decisions = {point: decide(item, controls) for point, item in (("half", at_half), ("best", at_best))}
    return OperatingPoints(
        metric="dice",
        cases=len(half.cases),
        chosen_without="the fold's own cases" if chosen.by == "fold" else "a fifth of the patients",
        losses=tuple(_points_of_losses(chosen, half, best)),
        pairs=tuple(pairs),
        verdict={
            point: PointVerdict(verdict=kind, best=candidates[0], candidates=candidates)
            for point, (kind, candidates) in decisions.items()
        },
    )


def kind_of_change(half: PointDifference, best: PointDifference, change: Difference) -> Change:
    """Classify the change of a difference from 0.5 to the best threshold of each loss.

    A difference *disappears* only if the data show that. It is clear at 0.5 and not at the best points, where it either
    is shown to lie within the margin, or is clearly smaller than at 0.5 and at most a quarter of it. It *shrinks* if it
    is clearly smaller, but more than that remains. A difference that is merely not clear anymore is no evidence that
    there is none.

    Parameters
    ----------
    half, best
        The difference at 0.5 and at the best thresholds.
    change
        Difference at the best thresholds minus that at 0.5.
    """
    if half.better is None:
        return "not clear at either" if best.better is None else "appears"
    if best.better is not None:
        return "stays" if best.better == half.better else "turns"
    smaller = change.ci_high < 0 if half.difference > 0 else change.ci_low > 0
    if best.equivalent or (smaller and abs(best.difference) <= SMALL_REMAINDER * abs(half.difference)):
        return "disappears"
    return "shrinks" if smaller else "no longer clear"


def _change(half: Paired, best: Paired, losses: tuple[str, str], confidence: float) -> Difference:
    """Return the change of a pair's difference from 0.5 to the best thresholds.

    It is a difference of differences on the same cases. To compute it with the same statistics as every other, the
    differences at the two points are presented as two losses.
    """
    items = (best, half)
    places = [tuple(item.losses.index(loss) for loss in losses) for item in items]
    both = replace(
        half,
        losses=("best", "half"),
        values=np.stack([item.values[a] - item.values[b] for item, (a, b) in zip(items, places, strict=True)]),
        values_by_seed=np.stack(
            [item.values_by_seed[a] - item.values_by_seed[b] for item, (a, b) in zip(items, places, strict=True)]
        ),
    )
    return compare_pairs(both, None, confidence).differences[0, 1]


def _at(both: Paired, point: str) -> Paired:
    """Return the arms of one operating point under the names of the losses."""
    chosen = [index for index, name in enumerate(both.losses) if name.endswith(SEPARATOR + point)]
    names = tuple(both.losses[index].split(SEPARATOR)[0] for index in chosen)
    return replace(both, losses=names, values=both.values[chosen], values_by_seed=both.values_by_seed[chosen])


def _difference_at(comparison: Comparison, a: str, b: str) -> PointDifference:
    """Return the result of a pair as ``a - b``."""
    result = pair_of(comparison.pairs, a, b)
    assert result is not None  # both losses are in the comparison
    return PointDifference(
        difference=result.difference,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        p_holm=result.p_holm,
        better=result.better,
        equivalent=result.equivalent,
    )


def _points_of_losses(chosen: ChosenThresholds, half: Paired, best: Paired) -> list[OperatingPoint]:
    """Return for each loss its thresholds by class, and its mean Dice at 0.5 and at these thresholds."""
    points = []
    for index, loss in enumerate(half.losses):
        rows = chosen.thresholds[chosen.thresholds["loss"] == loss]
        by_class = {
            str(name): ThresholdRange(
                median=float(part["threshold"].median()),
                least=float(part["threshold"].min()),
                largest=float(part["threshold"].max()),
            )
            for name, part in rows.groupby("class", sort=False)
        }
        at_half, at_best = float(half.means[index]), float(best.means[best.losses.index(loss)])
        points.append(
            OperatingPoint(
                name=loss,
                thresholds=by_class,
                at_half=at_half,
                at_best=at_best,
                gain=at_best - at_half,
                at_edge=bool(rows["threshold"].isin(chosen.edges).any()),
            )
        )
    return points
