"""The comparison again, with each loss at its best threshold, which tells effects of losses from those of thresholds.

Losses place their probabilities differently around 0.5. A loss that looks worse there may only need another threshold,
which costs nothing. For every loss and class the threshold is chosen on the cases of the other folds, and judged on the
fold's own: a threshold chosen on the cases that it is judged by would flatter every loss, the noisiest most.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison.difference import Difference
from pipeline.comparison.pairing import Paired, pair, usable_rows
from pipeline.comparison.pairs import Comparison, compare_pairs, decide
from pipeline.comparison.resampling import units_of
from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import RecordError
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

Floats = NDArray[np.float64]
COLUMNS = ("loss", "fold", "seed", "case", "class", "threshold", "dice")
HALF = 0.5
GROUPS_OF_CASES = 5
"""Parts into which the patients are split to choose thresholds where the table has one fold only."""

LITTLE = 0.25
"""Share of a difference that may be left where it is said to have disappeared."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Dice of each loss at 0.5 and at its own thresholds, as one table, and the thresholds.

    Attributes
    ----------
    table
        The long table of `compare`, with a column `point`: ``half`` or ``best``.
    thresholds
        Columns loss, class, part, threshold; a part is a fold, or a group of patients.
    by
        What was left out to choose: ``fold`` or ``patients``.
    edges
        Least and largest threshold of the grid.
    """

    table: pd.DataFrame
    thresholds: pd.DataFrame
    by: Literal["fold", "patients"]
    edges: tuple[float, float]


def choose(thresholds: pd.DataFrame, patients: Mapping[str, str] | None = None) -> Chosen:
    """Choose for each loss, class and fold the threshold with the largest mean Dice over the other folds' cases.

    Parameters
    ----------
    thresholds
        Columns loss, fold, seed, case, class, threshold, dice: Dice of ``probability >= threshold`` against the
        class's reference. Empty where nothing is there and nothing was found, which counts as 1.
    patients
        Patient of each case; by default every case is a patient.

    Raises
    ------
    RecordError
        For missing columns, text, thresholds twice, no threshold 0.5, or two losses on different grids.
    """
    frame = _checked(thresholds)
    of_case = {case: (patients or {}).get(case, case) for case in frame["case"].unique()}
    patient = frame["case"].map(of_case)
    by: Literal["fold", "patients"] = "fold" if frame["fold"].nunique() > 1 else "patients"
    frame["part"] = frame["fold"] if by == "fold" else pd.factorize(patient, sort=True)[0] % GROUPS_OF_CASES
    frame["patient"] = patient
    grid = np.sort(frame["threshold"].unique())
    frame["level"] = np.searchsorted(grid, frame["threshold"])
    frame["score"] = frame["dice"].fillna(1.0)
    sums = frame.groupby(["loss", "class", "part", "level"], sort=False)["score"].agg(["sum", "count"])
    nearest = np.argsort(np.abs(grid - HALF), kind="stable")
    picked = []
    for (loss, name), part in sums.groupby(level=["loss", "class"], sort=False):
        wide = part.droplevel(["loss", "class"]).unstack("level")
        sum_of = wide["sum"].to_numpy(dtype=np.float64)
        count_of = wide["count"].to_numpy(dtype=np.float64)
        if len(wide["sum"].columns) != grid.size or np.isnan(sum_of).any():
            raise RecordError("thresholds", f"lack some of {loss}, class {name}", "give every threshold of every case")
        others = count_of.sum(axis=0) - count_of
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(others > 0, (sum_of.sum(axis=0) - sum_of) / others, -np.inf)
        # rounding apart, the best; of several the one nearest to 0.5, where a part is alone with its class 0.5 itself
        ranked = np.round(means[:, nearest], 12)
        best = nearest[np.argmax(ranked, axis=1)]
        picked += [
            (loss, name, key, float(grid[level]), int(level)) for key, level in zip(wide.index, best, strict=True)
        ]
    own = pd.DataFrame(picked, columns=["loss", "class", "part", "chosen", "chosen_level"])
    frame = frame.merge(own, on=["loss", "class", "part"], how="left", validate="many_to_one")
    half = frame[frame["threshold"] == HALF].assign(point="half")
    best_rows = frame[frame["level"] == frame["chosen_level"]].assign(point="best")
    table = pd.concat([half, best_rows], ignore_index=True)
    table = table.assign(
        metric="dice", value=table["dice"], state=np.where(table["dice"].isna(), "correct_absence", "ok")
    )
    columns = ["loss", "fold", "seed", "case", "patient", "class", "metric", "value", "state", "point"]
    taken = own.rename(columns={"chosen": "threshold"})[["loss", "class", "part", "threshold"]]
    return Chosen(table[columns], taken, by, (float(grid[0]), float(grid[-1])))


def operating_points(
    thresholds: pd.DataFrame,
    recommended: str,
    *,
    controls: Collection[str] = (),
    patients: Mapping[str, str] | None = None,
    settings: ComparisonSettings | None = None,
) -> OperatingPoints | None:
    """Compare the recommended loss with each other at 0.5 and at the best operating points.

    Returns
    -------
    OperatingPoints or None
        Without sentences, which `pipeline.comparison.operating_words` writes. None if the thresholds have no two
        losses, or not the recommended one, on common cases of two patients.
    """
    settings = settings or ComparisonSettings()
    if thresholds.empty or thresholds["loss"].nunique() < 2:
        return None
    chosen = choose(thresholds, patients)
    # both points as arms of one table: the same classes of the same cases at both
    arms = chosen.table.assign(loss=chosen.table["loss"] + "\0" + chosen.table["point"])
    both = pair(usable_rows(arms.drop(columns="point"))[0], "dice")
    if both is None:
        return None
    half, best = (_at(both, point) for point in ("half", "best"))
    units = units_of(half)
    if recommended not in half.losses or units.patient_count < 2:
        return None
    at_half, at_best = (compare_pairs(item, settings.margins, settings.confidence) for item in (half, best))
    i = half.losses.index(recommended)
    pairs = []
    for j, other in enumerate(half.losses):
        if other == recommended:
            continue
        j_best, i_best = best.losses.index(other), best.losses.index(recommended)
        change = _change(half, best, (i, j), (i_best, j_best), settings.confidence)
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
    kinds = {point: decide(item, controls) for point, item in (("half", at_half), ("best", at_best))}
    return OperatingPoints(
        metric="dice",
        cases=len(half.cases),
        chosen_without="the fold's own cases" if chosen.by == "fold" else "a fifth of the patients",
        losses=tuple(_operating_points_of(chosen, half, best)),
        pairs=tuple(pairs),
        verdict={
            point: PointVerdict(verdict=kind, best=standing[0], candidates=standing)
            for point, (kind, standing) in kinds.items()
        },
    )


def _change(
    half: Paired, best: Paired, at_half: tuple[int, int], at_best: tuple[int, int], confidence: float
) -> Difference:
    """Return how the difference of a pair changes from 0.5 to the best thresholds: a difference of differences."""

    def gaps(item: Paired, pair: tuple[int, int]) -> tuple[Floats, Floats]:
        return item.values[pair[0]] - item.values[pair[1]], item.seeds[pair[0]] - item.seeds[pair[1]]

    (best_values, best_seeds), (half_values, half_seeds) = gaps(best, at_best), gaps(half, at_half)
    both = replace(
        half,
        losses=("best", "half"),
        values=np.stack([best_values, half_values]),
        seeds=np.stack([best_seeds, half_seeds]),
    )
    return compare_pairs(both, None, confidence).differences[0, 1]


def kind_of_change(half: PointDifference, best: PointDifference, change: Difference) -> Change:
    """Return what becomes of a difference at 0.5 when every loss has its own best threshold.

    It *disappears* only where that is shown: it is clear at 0.5 and not at the best points, and there either is shown
    to lie within the margin, or is clearly smaller than at 0.5 and at most a quarter of it. It *shrinks* where it is
    clearly smaller and more is left. Merely not clear any more is no evidence of no difference.
    """
    if half.better is None:
        return "not clear at either" if best.better is None else "appears"
    if best.better is not None:
        return "stays" if best.better == half.better else "turns"
    smaller = change.ci_high < 0 if half.difference > 0 else change.ci_low > 0
    if best.equivalent or (smaller and abs(best.difference) <= LITTLE * abs(half.difference)):
        return "disappears"
    return "shrinks" if smaller else "no longer clear"


def _checked(thresholds: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in thresholds]
    if missing:
        raise RecordError("thresholds", f"lack the column(s) {', '.join(missing)}", f"name them {', '.join(COLUMNS)}")
    frame = thresholds[list(COLUMNS)].copy()
    for name in ("loss", "case", "class"):
        frame[name] = frame[name].astype(str)
    for name in ("fold", "seed", "threshold", "dice"):
        try:
            frame[name] = pd.to_numeric(frame[name])
        except (ValueError, TypeError) as error:
            raise RecordError("thresholds", f"hold in {name} what is no number ({error})", "mend the table") from error
    frame["threshold"] = frame["threshold"].round(6)
    if np.isinf(frame["dice"]).any():
        raise RecordError("thresholds", "hold an infinite Dice", "mend the table")
    if frame.duplicated(list(COLUMNS[:-1])).any():
        raise RecordError("thresholds", "hold one case's threshold twice", "one row for each run, case, class, level")
    if HALF not in set(frame["threshold"]):
        raise RecordError("thresholds", "lack 0.5, at which losses are compared", "add it to the grid")
    return frame


def _at(both: Paired, point: str) -> Paired:
    """Return one operating point's arms under the losses' own names."""
    kept = [index for index, name in enumerate(both.losses) if name.endswith(f"\0{point}")]
    names = tuple(both.losses[index].split("\0")[0] for index in kept)
    return replace(both, losses=names, values=both.values[kept], seeds=both.seeds[kept])


def _difference_at(comparison: Comparison, a: str, b: str) -> PointDifference:
    """Return the pair's numbers as ``a - b``."""
    pair = pair_of(comparison.pairs, a, b)
    assert pair is not None  # both losses are in the comparison
    return PointDifference(
        difference=pair.difference,
        ci_low=pair.ci_low,
        ci_high=pair.ci_high,
        p_holm=pair.p_holm,
        better=pair.better,
        equivalent=pair.equivalent,
    )


def _operating_points_of(chosen: Chosen, half: Paired, best: Paired) -> list[OperatingPoint]:
    """Return for each loss its thresholds by class, and its mean Dice at 0.5 and at them."""
    points = []
    for index, loss in enumerate(half.losses):
        mine = chosen.thresholds[chosen.thresholds["loss"] == loss]
        by_class = {
            str(name): ThresholdRange(
                median=float(part["threshold"].median()),
                least=float(part["threshold"].min()),
                largest=float(part["threshold"].max()),
            )
            for name, part in mine.groupby("class", sort=False)
        }
        at_half, at_best = float(half.means[index]), float(best.means[best.losses.index(loss)])
        points.append(
            OperatingPoint(
                name=loss,
                thresholds=by_class,
                at_half=at_half,
                at_best=at_best,
                gain=at_best - at_half,
                at_edge=bool(mine["threshold"].isin(chosen.edges).any()),
            )
        )
    return points
