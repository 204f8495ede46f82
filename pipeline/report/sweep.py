"""What a sweep over the foreground fraction says: a point with its interval for each loss, level and metric."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.comparison.resampling import mean_intervals
from pipeline.errors import RecordError
from pipeline.records.table import read_table

METRICS = ("dice", "hausdorff95_mm")


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One loss at one level in one metric.

    `mean`, `low` and `high` (95 %, bootstrap over folds, cases and seeds) are over all `cases`; those of collapsed runs
    count as failures. They are None where there are no results. `missed` is the share of the cases of the other runs in
    which nothing of the structure was found.
    """

    loss: str
    fraction: float
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    runs: int
    collapsed: int
    missed: float | None
    cases: int


def read_sweep(path: Path) -> pd.DataFrame:
    """Return ``sweep.csv``; a `RecordError` where it is none, or holds no result yet."""
    table = read_table(path)
    if "fraction" not in table:
        raise RecordError(path, "lacks the column fraction", "give the sweep.csv of a sweep")
    if table.empty:
        raise RecordError(path, "holds no result yet", "run its `segloss sweep` command again")
    return table


def sweep_points(table: pd.DataFrame) -> list[SweepPoint]:
    """Return the points of a sweep, by metric, loss in the order of the table, and fraction from large to small.

    `table` is ``sweep.csv``: ``fraction`` and the columns of ``cases.csv``.
    """
    losses = list(dict.fromkeys(table["loss"]))
    fractions = sorted(table["fraction"].unique(), reverse=True)
    return [
        _point(table[(table["loss"] == loss) & (table["fraction"] == fraction)], str(loss), float(fraction), metric)
        for metric in METRICS
        for loss in losses
        for fraction in fractions
        if ((table["loss"] == loss) & (table["fraction"] == fraction)).any()
    ]


def _point(rows: pd.DataFrame, loss: str, fraction: float, metric: str) -> SweepPoint:
    of_runs = rows.groupby(["fold", "seed"], sort=False)["state"].agg(lambda states: "collapsed" in set(states))
    usable, _ = usable_rows(rows)
    paired = pair(usable, metric)
    mean = low = high = missed = None
    if paired is not None:
        mean = float(paired.means[0])
        low, high = (float(bound) for bound in mean_intervals(paired)[0])
        states = usable[(usable["metric"] == metric) & (usable["state"] != "collapsed")]["state"]
        missed = float((states == "missed").mean()) if len(states) else None
    fallen, cases = int(of_runs.sum()), 0 if paired is None else len(paired.cases)
    return SweepPoint(loss, fraction, metric, mean, low, high, len(of_runs), fallen, missed, cases)


def sweep_verdicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each level what `pipeline.comparison.compare` says of its losses.

    Levels at which fewer than two losses have results are left out.
    """
    found = []
    for fraction in sorted(table["fraction"].unique(), reverse=True):
        rows = table[table["fraction"] == fraction].drop(columns="fraction")
        usable, _ = usable_rows(rows)
        if usable["loss"].nunique() < 2:
            continue
        verdict = compare(rows, ComparisonSettings(metrics=METRICS))
        found.append(
            {
                "fraction": float(fraction),
                "verdict": verdict.verdict,
                "recommended": verdict.recommended,
                "words": verdict.words[0],
            }
        )
    return found


def points_json(points: Sequence[SweepPoint]) -> list[dict[str, Any]]:
    """Return points as plain values."""
    return [asdict(point) for point in points]
