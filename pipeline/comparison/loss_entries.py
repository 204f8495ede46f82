"""What stands beside each loss in a verdict: means, deviations, failures, states and the probability of collapse."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.presence import collapse_of
from pipeline.records.metrics import metric_of

FAILURE = 0.5
"""A case whose overlap is below this has failed; the share of such cases stands beside the mean."""

FAILURES = ("missed", "false_positive", "collapsed")
"""States in which a distance is not measured but set to what a miss costs."""


def loss_entries(
    compared: Mapping[str, Comparison],
    intervals: Mapping[str, Mapping[str, tuple[float, float]]],
    rows: pd.DataFrame,
    collapsed: Mapping[str, int],
    aside: Mapping[str, str],
    confidence: float,
) -> list[dict[str, Any]]:
    """Return means and deviations of each loss, with counts of states and of failures beside them.

    `intervals` are those of the means, by metric and loss.
    """
    names = list(dict.fromkeys([*rows["loss"], *collapsed]))
    one = rows[rows["metric"] == next(iter(compared))]
    trainings = rows.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts()
    entries = []
    for name in names:
        states = one[one["loss"] == name]["state"].value_counts()
        metrics = {}
        for metric, item in compared.items():
            mine = rows[(rows["loss"] == name) & (rows["metric"] == metric)]
            if name in item.paired.losses:
                index = item.paired.losses.index(name)
                values, mean = item.paired.values[index], float(item.paired.means[index])
                interval = intervals[metric].get(name, (None, None))
            else:
                values = mine.groupby("case")["value"].mean().dropna().to_numpy(dtype=np.float64)
                mean, interval = float(values.mean()) if values.size else math.nan, (None, None)
            if values.size:
                metrics[metric] = {
                    "mean": mean,
                    "median": float(np.median(values)),
                    "sd": float(values.std(ddof=1)) if values.size > 1 else None,
                    "ci_low": interval[0],
                    "ci_high": interval[1],
                    "cases": int(values.size),
                    **_failures(metric, values, mine),
                }
        counts = {state: int(states.get(state, 0)) for state in ("ok", "missed", "false_positive", "correct_absence")}
        runs = collapsed.get(name, 0)
        entries.append(
            {
                "name": name,
                "metrics": metrics,
                "counts": counts,
                "collapsed_runs": runs,
                "collapse": collapse_of(runs, int(trainings.get(name, runs)), confidence),
                "set_aside": aside.get(name),
            }
        )
    return entries


def _failures(metric: str, values: np.ndarray, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what a mean hides: the share of failed cases, or the mean distance where something was found."""
    info = metric_of(metric)
    if info.is_distance:
        hits = rows[rows["state"] == "ok"]["value"].dropna()
        structures = rows[rows["state"] != "correct_absence"]
        missed = int(structures["state"].isin(FAILURES).sum())
        return {
            "mean_of_hits": float(hits.mean()) if len(hits) else None,
            "hits": len(hits),
            "miss_rate": missed / len(structures) if len(structures) else None,
        }
    if info.higher_is_better and info.largest == 1:
        return {"failure_below": FAILURE, "failure_rate": float(np.mean(values < FAILURE))}
    return {}
