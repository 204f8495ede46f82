"""Count the cases in which a class is detected or correctly absent, and the runs that collapse."""

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.records.states import REFERENCE_ABSENT, REFERENCE_PRESENT, State
from pipeline.records.verdict import CollapseProbability, Presence


def presence(rows: pd.DataFrame) -> list[Presence]:
    """Return sensitivity and specificity of each loss and class, by case.

    A class that the reference shows counts as detected if the prediction shows it too, wherever it is. Sensitivity is
    the share of such cases. Specificity is the share of cases without the class in which it was not predicted. A
    collapsed run detects nothing, and does not count for specificity. A rate over no case is None.

    Parameters
    ----------
    rows
        From `pipeline.comparison.long_table.usable_rows`.
    """
    one = rows[rows["metric"] == rows["metric"].iloc[0]] if len(rows) else rows
    with_class = one[one["state"].isin(REFERENCE_PRESENT)][["case", "class"]].drop_duplicates()
    present = pd.MultiIndex.from_frame(with_class)
    shown = pd.MultiIndex.from_frame(one[["case", "class"]]).isin(present)
    state = one["state"].to_numpy()
    counts = pd.DataFrame(
        {
            "loss": one["loss"],
            "class": one["class"],
            "present": shown,
            "detected": shown & (state == State.OK),
            "absent": ~shown & np.isin(state, REFERENCE_ABSENT),
            "correctly_absent": ~shown & (state == State.CORRECT_ABSENCE),
        }
    )
    table = counts.groupby(["loss", "class"], sort=False).sum()
    return [
        Presence(
            loss=str(row["loss"]),
            class_name=str(row["class"]),
            present=row["present"],
            detected=row["detected"],
            absent=row["absent"],
            correctly_absent=row["correctly_absent"],
            sensitivity=_share(row["detected"], row["present"]),
            specificity=_share(row["correctly_absent"], row["absent"]),
        )
        for row in table.reset_index().to_dict("records")
    ]


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def collapse_of(runs: int, of: int, confidence: float) -> CollapseProbability:
    """Return the probability that a training collapses, with its exact interval [Clopper and Pearson 1934].

    Parameters
    ----------
    runs, of
        Number of collapsed trainings, and of all trainings.
    confidence
        Confidence of the interval.

    Examples
    --------
    >>> collapse_of(0, 5, 0.95).ci_high > 0.5
    True
    """
    interval = stats.binomtest(runs, of).proportion_ci(confidence) if of else None
    return CollapseProbability(
        runs=runs,
        of=of,
        probability=runs / of if of else None,
        ci_low=None if interval is None else float(interval.low),
        ci_high=None if interval is None else float(interval.high),
    )
