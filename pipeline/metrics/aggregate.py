"""Summaries over cases: mean, median and spread of each metric, with the number of cases in each state."""

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.states import State

COUNTS = ("defined", "correct_absence", "missed", "false_positive", "collapsed", "undefined")
"""Columns that count cases by state; `summarize` defines them."""

SUMMARY = ("loss", "class", "metric", "mean", "median", "std", *COUNTS)
"""Columns of a summary."""


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean, median and standard deviation by loss, class and metric, with the counts of states.

    Rows of classes that were not annotated are left out. Every other row belongs to exactly one of four counts:

    - ``defined``: the row has a value. Missed structures and false positives are among them, with the value of
      `pipeline.metrics.empty_masks`; the columns ``missed`` and ``false_positive`` count them again.
    - ``correct_absence``: neither mask holds the class, and there is no value.
    - ``collapsed``: the row belongs to a run that failed. Its value, if it has one, is that of a missed structure.
    - ``undefined``: there is no finite value, and no state that explains it.

    Mean, median and standard deviation are those of all finite values. A mean over nothing is NaN, never 0.

    Parameters
    ----------
    table
        The long table (`pipeline.records.table`); `class` and `state` may be absent, as in tables of other tools.

    Returns
    -------
    pandas.DataFrame
        Columns of `SUMMARY`, a row for each loss, class and metric in the order of the table.

    Raises
    ------
    RecordError
        A column is missing.

    Examples
    --------
    >>> table = pd.DataFrame({"loss": "ce", "class": "liver", "metric": "dice", "value": [0.8, 0.0, None],
    ...                       "state": ["ok", "missed", "correct_absence"]})
    >>> summarize(table)[["mean", "defined", "missed", "correct_absence"]].to_dict("records")
    [{'mean': 0.4, 'defined': 2, 'missed': 1, 'correct_absence': 1}]
    """
    missing = [name for name in ("loss", "metric", "value") if name not in table.columns]
    if missing:
        raise RecordError(
            "table", f"lacks the column(s) {', '.join(missing)}", "give a table with the columns of cases.csv"
        )
    if "state" in table.columns:
        table = table[table["state"] != State.NOT_ANNOTATED]
    value = pd.to_numeric(table["value"], errors="coerce").astype("float64")
    state = table["state"].fillna("") if "state" in table.columns else pd.Series("", index=table.index)
    class_name = table["class"].fillna("") if "class" in table.columns else pd.Series("", index=table.index)
    finite = value.abs() < float("inf")
    collapsed = state == State.COLLAPSED
    defined = finite & ~collapsed
    absent = ~defined & (state == State.CORRECT_ABSENCE)
    rows = pd.DataFrame(
        {
            "loss": table["loss"],
            "class": class_name,
            "metric": table["metric"],
            "value": value.where(finite),
            "defined": defined,
            "correct_absence": absent,
            "missed": defined & (state == State.MISSED),
            "false_positive": defined & (state == State.FALSE_POSITIVE),
            "collapsed": collapsed,
            "undefined": ~defined & ~absent & ~collapsed,
        }
    )
    grouped = rows.groupby(["loss", "class", "metric"], sort=False, observed=True)
    summary = grouped["value"].agg(["mean", "median", "std"]).join(grouped[list(COUNTS)].sum())
    return summary.reset_index()[list(SUMMARY)]
