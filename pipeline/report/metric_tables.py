"""The tables of metrics by class, by size of structure, and of ranks over metrics."""

import math
from typing import NamedTuple

import pandas as pd

from pipeline.comparison.evidence import Evidence
from pipeline.metrics.aggregate import COUNTS, summarize
from pipeline.records.metrics import metric_of
from pipeline.records.verdict import Verdict
from pipeline.report.formatting import number
from pipeline.report.tables import (
    STATE_HEADINGS,
    Table,
    count_cell,
    loss_cell,
    metric_cell,
    state_cells,
    text_cell,
    value_cell,
)


class ClassTable(NamedTuple):
    """Table of one metric by class and loss."""

    title: str
    table: Table


def class_tables(evidence: Evidence) -> list[ClassTable]:
    """Return for each metric a table of class x loss, with the counts behind each mean.

    Means are over all values. A collapsed run counts with the worst value of the metric if there is one.
    """
    summary = summarize(_with_failures(evidence.table))
    columns = ("class", "loss", "mean ± sd", "median", "values", *STATE_HEADINGS, "collapsed")
    tables = []
    for metric, part in summary.groupby("metric", sort=False):
        name = str(metric)
        title = metric_of(name).heading
        table = Table(f"{title} by class. Each case counts once for every seed.", columns)
        for class_name, rows in part.groupby("class", sort=False):
            for row in rows.to_dict("records"):
                counts = {count: int(row[count]) for count in COUNTS}
                table.rows.append(
                    [
                        text_cell(str(class_name)),
                        loss_cell(str(row["loss"])),
                        value_cell(row["mean"], _mean_and_sd(row["mean"], row["std"], name)),
                        metric_cell(row["median"], name),
                        count_cell(counts["defined"]),
                        *state_cells(counts),
                        count_cell(counts["collapsed"], warn=True),
                    ]
                )
        tables.append(ClassTable(title, table))
    return tables


def _with_failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the worst value of a metric for collapsed runs that were recorded without values."""
    worst = table["metric"].map({name: metric_of(str(name)).worst for name in table["metric"].unique()})
    lacks_value = (table["state"] == "collapsed") & table["value"].isna()
    return table.assign(value=table["value"].where(~lacks_value, worst.astype("float64")))


def _mean_and_sd(mean: float | None, sd: float | None, metric: str) -> str:
    shown = number(mean, metric)
    return shown if sd is None or not math.isfinite(sd) else f"{shown} ± {number(sd, metric)}"


def size_table(evidence: Evidence) -> Table:
    """Return the primary metric by size of structure, with the counts behind each mean."""
    primary = evidence.primary
    table = Table(
        f"{metric_of(primary).heading} by volume of the structure in the reference. Each case counts once for every "
        "seed.",
        ("size", "loss", "mean ± sd", "values", "structures", "missed", "false positive"),
    )
    table.rows.extend(
        [
            text_cell(row.size),
            loss_cell(row.loss),
            value_cell(row.mean, _mean_and_sd(row.mean, row.sd, primary)),
            count_cell(row.defined),
            count_cell(row.structures),
            count_cell(row.missed, warn=True),
            count_cell(row.false_positive, warn=True),
        ]
        for row in evidence.verdict.by_size
        if row.metric == primary
    )
    return table


def ranks_table(verdict: Verdict) -> Table:
    """Return ranks averaged over metrics, for each way of ranking; 1 is best."""
    ranks = verdict.ranking_over_metrics
    metrics = ", ".join(metric_of(name).heading for name in ranks.metrics)
    table = Table(
        f"Ranks (1 is best), averaged over {metrics}. By means: ranks of the means. By cases: ranks within each "
        "patient, averaged. By clear differences: ranks of the number of clearly worse losses minus the number of "
        "clearly better ones.",
        ("loss", "by means", "by cases", "by clear differences"),
    )
    each = zip(ranks.losses, ranks.mean_then_rank, ranks.rank_then_mean, ranks.test_based, strict=True)
    for loss, *places in each:
        table.rows.append([loss_cell(loss), *(value_cell(rank, f"{rank:.2f}") for rank in places)])
    return table
