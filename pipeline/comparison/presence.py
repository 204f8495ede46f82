"""Whether structures are found where they are, and left out where they are not: counts beside the scores."""

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.comparison.pairing import PRESENT
from pipeline.records.verdict import CollapseProbability, Presence


def presence(rows: pd.DataFrame) -> list[Presence]:
    """Return sensitivity and specificity of each loss and class, by case.

    A structure that the reference shows counts as detected where the prediction shows the class too, wherever it
    is. Sensitivity is the share of such cases; specificity is the share of cases without the structure in which
    nothing was predicted. A collapsed run detects nothing; it says nothing of specificity. A rate over no case is None.
    """
    one = rows[rows["metric"] == rows["metric"].iloc[0]] if len(rows) else rows
    seen = one[one["state"].isin(PRESENT)][["case", "class"]].drop_duplicates()
    present = pd.MultiIndex.from_frame(seen)
    shown = pd.MultiIndex.from_frame(one[["case", "class"]]).isin(present)
    state = one["state"].to_numpy()
    counts = pd.DataFrame(
        {
            "loss": one["loss"],
            "class": one["class"],
            "present": shown,
            "detected": shown & (state == "ok"),
            "absent": ~shown & np.isin(state, ("correct_absence", "false_positive")),
            "correctly_absent": ~shown & (state == "correct_absence"),
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
