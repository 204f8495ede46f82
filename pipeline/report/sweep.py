"""Results of a sweep over the foreground fraction: a mean with its interval for each loss, fraction and metric."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.comparison.resampling import mean_intervals
from pipeline.errors import RecordError
from pipeline.records.operating_points import VerdictKind
from pipeline.records.table import read_table

METRICS = ("dice", "hausdorff95_mm")


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One loss at one foreground fraction by one metric.

    Attributes
    ----------
    loss, fraction, metric
        Name of the loss, share of labeled voxels (0 to 1), and name of the metric.
    mean, low, high
        Mean over all `cases` and its 95 % interval (bootstrap over folds, cases and seeds), in the metric's unit. The
        cases of collapsed runs count as failures. None if there are no results.
    runs, collapsed
        Finished runs, and those of them that collapsed.
    missed
        Share of the cases of the other runs in which nothing of the structure was predicted.
    cases
        Cases behind the mean.
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


@dataclass(frozen=True, slots=True)
class LevelVerdict:
    """Verdict on the losses at one foreground fraction, with its first sentence."""

    fraction: float
    verdict: VerdictKind
    recommended: str | None
    headline: str


def read_sweep(path: Path) -> pd.DataFrame:
    """Return ``sweep.csv``.

    Raises
    ------
    RecordError
        If the file is not the table of a sweep, or holds no result yet.
    """
    table = read_table(path)
    if "fraction" not in table:
        raise RecordError(path, "lacks the column fraction", "give the sweep.csv of a sweep")
    if table.empty:
        raise RecordError(path, "holds no result yet", "run its `whichloss sweep` command again")
    return table


def sweep_points(table: pd.DataFrame) -> list[SweepPoint]:
    """Return the points of a sweep by metric, loss in the order of the table, and fraction in descending order.

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
    run_collapsed = rows.groupby(["fold", "seed"], sort=False)["state"].agg(lambda states: "collapsed" in set(states))
    usable, _ = usable_rows(rows)
    paired = pair(usable, metric)
    mean = low = high = missed = None
    if paired is not None:
        mean = float(paired.means[0])
        low, high = (float(bound) for bound in mean_intervals(paired)[0])
        states = usable[(usable["metric"] == metric) & (usable["state"] != "collapsed")]["state"]
        missed = float((states == "missed").mean()) if len(states) else None
    cases = 0 if paired is None else len(paired.cases)
    runs, collapsed = len(run_collapsed), int(run_collapsed.sum())
    return SweepPoint(loss, fraction, metric, mean, low, high, runs, collapsed, missed, cases)


def level_verdicts(table: pd.DataFrame) -> list[LevelVerdict]:
    """Return the verdict of `pipeline.comparison.compare` at each fraction, in descending order.

    Fractions at which fewer than two losses have results are left out.
    """
    verdicts = []
    for fraction in sorted(table["fraction"].unique(), reverse=True):
        rows = table[table["fraction"] == fraction].drop(columns="fraction")
        usable, _ = usable_rows(rows)
        if usable["loss"].nunique() >= 2:
            verdict = compare(rows, ComparisonSettings(metrics=METRICS))
            verdicts.append(LevelVerdict(float(fraction), verdict.verdict, verdict.recommended, verdict.words[0]))
    return verdicts


def points_json(points: Sequence[SweepPoint]) -> list[dict[str, object]]:
    """Return points as JSON values."""
    return [asdict(point) for point in points]
