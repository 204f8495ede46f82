"""Summarize each loss: means, deviations, failures, states and the probability of collapse."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.comparison.pairs import Comparison
from pipeline.comparison.presence import collapse_of
from pipeline.records.events import StateCounts
from pipeline.records.metrics import metric_of
from pipeline.records.states import FAILURES, State
from pipeline.records.verdict import LossResult, MetricSummary

FAILURE_BELOW = 0.5
"""A case with an overlap below this value has failed; the share of such cases is reported beside the mean."""


def loss_results(
    compared: Mapping[str, Comparison],
    intervals: Mapping[str, Mapping[str, tuple[float, float]]],
    rows: pd.DataFrame,
    collapsed: Mapping[str, int],
    set_aside: Mapping[str, str],
    confidence: float,
) -> list[LossResult]:
    """Return means and deviations of each loss, with counts of states and failures.

    Parameters
    ----------
    compared
        Comparison by each metric, the deciding one first.
    intervals
        Bootstrap intervals of the means, by metric and loss.
    rows
        The checked rows of the table.
    collapsed
        Collapsed runs of each loss.
    set_aside
        Losses that are not compared, with the reason.
    confidence
        Confidence of the interval of the probability of collapse.
    """
    names = list(dict.fromkeys([*rows["loss"], *collapsed]))
    one = rows[rows["metric"] == next(iter(compared))]
    trainings = rows.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts()
    results = []
    for name in names:
        states = one[one["loss"] == name]["state"].value_counts()
        metrics = {}
        for metric, item in compared.items():
            of_loss = rows[(rows["loss"] == name) & (rows["metric"] == metric)]
            if name in item.paired.losses:
                index = item.paired.losses.index(name)
                values, mean = item.paired.values[index], float(item.paired.means[index])
                interval = intervals[metric].get(name, (None, None))
            else:
                values = of_loss.groupby("case")["value"].mean().dropna().to_numpy(dtype=np.float64)
                mean, interval = float(values.mean()) if values.size else math.nan, (None, None)
            if values.size:
                summary = MetricSummary(
                    mean=mean,
                    median=float(np.median(values)),
                    sd=float(values.std(ddof=1)) if values.size > 1 else None,
                    ci_low=interval[0],
                    ci_high=interval[1],
                    cases=int(values.size),
                )
                metrics[metric] = _with_failures(summary, metric, values, of_loss)
        counts = {state: int(states.get(state, 0)) for state in StateCounts.model_fields}
        runs = collapsed.get(name, 0)
        results.append(
            LossResult(
                name=name,
                metrics=metrics,
                counts=StateCounts(**counts),
                collapsed_runs=runs,
                collapse=collapse_of(runs, int(trainings.get(name, runs)), confidence),
                set_aside=set_aside.get(name),
            )
        )
    return results


def _with_failures(summary: MetricSummary, metric: str, values: np.ndarray, rows: pd.DataFrame) -> MetricSummary:
    """Add the failures that a mean hides: the share of failed cases, or the miss rate and the mean distance of hits."""
    info = metric_of(metric)
    if info.is_distance:
        hits = rows[rows["state"] == State.OK]["value"].dropna()
        structures = rows[rows["state"] != State.CORRECT_ABSENCE]
        missed = int(structures["state"].isin(FAILURES).sum())
        failures = {
            "mean_of_hits": float(hits.mean()) if len(hits) else None,
            "hits": len(hits),
            "miss_rate": missed / len(structures) if len(structures) else None,
        }
        return summary.model_copy(update=failures)
    if info.higher_is_better and info.largest == 1:
        failures = {"failure_below": FAILURE_BELOW, "failure_rate": float(np.mean(values < FAILURE_BELOW))}
        return summary.model_copy(update=failures)
    return summary
