"""Sizes of structures, from the table alone.

A column `volume_ml` (of the reference, for each case and class) is used where there is one. Otherwise volumes A of the
reference and B of a prediction follow from four metrics of any one loss: volume_error = 2|B-A|/(A+B), volume_error_ml =
|B-A|, and B/A = sensitivity/precision, so that A = 2 volume_error_ml / (volume_error (1 + sensitivity/precision)).
"""

import numpy as np
import pandas as pd

NEEDED = ("sensitivity", "precision", "volume_error", "volume_error_ml")
LEAST = 6
"""Structures below which a split by size says nothing."""


def volumes_ml(rows: pd.DataFrame) -> pd.Series:
    """Return the reference's volume in mL, indexed by case and class; empty where the table does not tell.

    The prediction that is furthest from the reference's volume tells it most exactly.
    """
    if "volume_ml" in rows:
        given = pd.to_numeric(rows["volume_ml"], errors="coerce")
        result: pd.Series = given.groupby([rows["case"], rows["class"]]).median().dropna()
        return result
    one = rows[rows["metric"].isin(NEEDED) & rows["state"].isin(["ok", "missed"])]
    empty = pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["case", "class"]))
    if set(one["metric"]) != set(NEEDED):
        return empty
    wide = one.pivot_table(index=["case", "class", "loss", "fold", "seed"], columns="metric", values="value")
    if not set(NEEDED) <= set(wide.columns):
        return empty
    relative, absolute = wide["volume_error"], wide["volume_error_ml"]
    ratio = (wide["sensitivity"] / wide["precision"]).where(wide["precision"] > 0, np.nan)
    ratio = ratio.mask(relative >= 2, 0.0)
    wide = wide.assign(volume=2 * absolute / (relative * (1 + ratio)))
    wide = wide[(relative > 0) & np.isfinite(wide["volume"])]
    if wide.empty:
        return empty
    clearest = wide["volume_error"].groupby(level=["case", "class"]).idxmax()
    found: pd.Series = wide.loc[list(clearest), "volume"].droplevel(["loss", "fold", "seed"])
    return found


def size_groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of the small, middle and large third of all structures, by the name of the group."""
    volumes = volumes_ml(rows)
    if len(volumes) < LEAST:
        return {}
    low, high = (float(cut) for cut in np.quantile(volumes, [1 / 3, 2 / 3]))
    if low == high:
        return {}
    of_row = volumes.reindex(pd.MultiIndex.from_frame(rows[["case", "class"]])).to_numpy()
    return {
        f"below {low:.3g} mL": rows[of_row < low],
        f"{low:.3g} to {high:.3g} mL": rows[(of_row >= low) & (of_row < high)],
        f"{high:.3g} mL and more": rows[of_row >= high],
    }
