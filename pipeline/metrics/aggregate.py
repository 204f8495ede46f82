"""Means over cases, with the number of cases in each state."""

import pandas as pd

from pipeline.errors import RecordError

COUNTS = ("defined", "correct_absence", "missed", "false_positive", "collapsed", "undefined")
SUMMARY = ("loss", "class", "metric", "mean", "median", "std", *COUNTS)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean, median and standard deviation per loss, class and metric, with counts beside them.

    Parameters
    ----------
    table
        The long table (`pipeline.records.table`); `class` and `state` may be absent, as in tables of other tools.

    Returns
    -------
    pandas.DataFrame
        Columns of `SUMMARY`, a row for each loss, class and metric in the order of the table.

        The mean is over the `defined` rows, which have a value, and over collapsed rows with a value. Misses and false
        positives are among the defined rows, with the value that the policy for empty masks gives. `correct_absence`
        rows have no value. `collapsed` rows are those of a run that failed; their value is that of a miss. `undefined`
        rows hold no finite value and no state that explains it. Each row of the table is in exactly one of these four;
        `missed` and `false_positive` count rows among the defined ones. A mean over nothing is NaN, never 0.

    Raises
    ------
    RecordError
        Where a column is missing.
    """
    missing = [name for name in ("loss", "metric", "value") if name not in table.columns]
    if missing:
        raise RecordError(
            "table", f"lacks the column(s) {', '.join(missing)}", "give a table with the columns of cases.csv"
        )
    value = pd.to_numeric(table["value"], errors="coerce").astype("float64")
    state = table["state"].fillna("") if "state" in table.columns else pd.Series("", index=table.index)
    class_name = table["class"].fillna("") if "class" in table.columns else pd.Series("", index=table.index)
    finite = value.abs() < float("inf")
    collapsed = state == "collapsed"
    defined = finite & ~collapsed
    absent = ~defined & (state == "correct_absence")
    rows = pd.DataFrame(
        {
            "loss": table["loss"],
            "class": class_name,
            "metric": table["metric"],
            "value": value.where(finite),
            "defined": defined,
            "correct_absence": absent,
            "missed": defined & (state == "missed"),
            "false_positive": defined & (state == "false_positive"),
            "collapsed": collapsed,
            "undefined": ~defined & ~absent & ~collapsed,
        }
    )
    grouped = rows.groupby(["loss", "class", "metric"], sort=False, observed=True)
    summary = grouped["value"].agg(["mean", "median", "std"]).join(grouped[list(COUNTS)].sum())
    return summary.reset_index()[list(SUMMARY)]
