"""Derive the sizes of structures from the long table alone.

A column `volume_ml` (volume of the reference, for each case and class) is used if there is one. Otherwise the volumes A
of the reference and B of a prediction follow from four metrics of any one loss: volume_error = 2|B-A|/(A+B),
volume_error_ml = |B-A|, and B/A = sensitivity/precision. Therefore
A = 2 volume_error_ml / (volume_error (1 + sensitivity/precision)).
"""

import numpy as np
import pandas as pd

from pipeline.records.states import REFERENCE_PRESENT

VOLUME_METRICS = ("sensitivity", "precision", "volume_error", "volume_error_ml")
"""Metrics from which a volume can be derived."""

FEWEST_STRUCTURES = 6
"""Below this number of structures, a split by size is not informative."""


def volumes_ml(rows: pd.DataFrame) -> pd.Series:
    """Return the volume of the reference in mL, indexed by case and class; empty if the table does not show it.

    Of several predictions, the one with the largest volume error is used: the smaller an error, the more its rounding
    changes the result.
    """
    if "volume_ml" in rows:
        given = pd.to_numeric(rows["volume_ml"], errors="coerce")
        result: pd.Series = given.groupby([rows["case"], rows["class"]]).median().dropna()
        return result
    one = rows[rows["metric"].isin(VOLUME_METRICS) & rows["state"].isin(REFERENCE_PRESENT)]
    empty = pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["case", "class"]))
    if set(one["metric"]) != set(VOLUME_METRICS):
        return empty
    wide = one.pivot_table(index=["case", "class", "loss", "fold", "seed"], columns="metric", values="value")
    if not set(VOLUME_METRICS) <= set(wide.columns):
        return empty
    relative, absolute = wide["volume_error"], wide["volume_error_ml"]
    ratio = (wide["sensitivity"] / wide["precision"]).where(wide["precision"] > 0, np.nan)
    ratio = ratio.mask(relative >= 2, 0.0)  # an empty prediction has no precision
    wide = wide.assign(volume=2 * absolute / (relative * (1 + ratio)))
    wide = wide[(relative > 0) & np.isfinite(wide["volume"])]
    if wide.empty:
        return empty
    largest_error = wide["volume_error"].groupby(level=["case", "class"]).idxmax()
    volumes: pd.Series = wide.loc[list(largest_error), "volume"].droplevel(["loss", "fold", "seed"])
    return volumes


def size_groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of the small, medium and large third of all structures, by the name of the group."""
    volumes = volumes_ml(rows)
    if len(volumes) < FEWEST_STRUCTURES:
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
