"""From the long table to values that can be compared: one per loss and case, on the same cases for every loss.

What is left out is left out for every loss: a class of a case counts where each loss has a value for it. A correct
absence has no value; where another loss saw what is not there it counts as the best value, so that a false positive
costs, and where none did the class of that case says nothing about losses and is left out for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import RecordError

HIGHER_IS_BETTER = frozenset({"dice", "iou", "sensitivity", "precision", "nsd", "lesion_f1"})
BEST = {True: 1.0, False: 0.0}
"""The value of a correct absence where another loss saw what is not there: overlap 1, error and distance 0."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Paired:
    """One metric: a value per loss and case, averaged over classes and seeds.

    Attributes
    ----------
    metric
        Its name.
    losses
        Names, in the order of the table.
    cases
        Cases that every loss has a value for.
    patients, folds
        Of each case; folds are -1 where the table has none.
    values
        (losses, cases).
    seeds
        (losses, seeds, cases); NaN where a loss was not trained with a seed.
    left_out
        Classes of cases that some loss has a value for and another has not.
    """

    metric: str
    losses: tuple[str, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    folds: Indices
    values: Floats
    seeds: Floats
    left_out: int = 0

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.metric in HIGHER_IS_BETTER

    @property
    def means(self) -> Floats:
        """Mean over cases of each loss."""
        return np.asarray(self.values.mean(axis=1), dtype=np.float64)


def usable_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows that can be averaged, and for each loss how many of its runs collapsed.

    A collapsed run is a state of its own, never a score of 0 averaged in: its rows are left out.

    Raises
    ------
    RecordError
        For a missing column, a value that is no finite number, or two values where there can be one.
    """
    missing = [name for name in ("loss", "case", "metric", "value") if name not in table]
    if missing:
        raise RecordError(
            "the table", f"lacks the column(s) {', '.join(missing)}", "name the columns loss, case, metric, value"
        )
    table = table.copy()
    for column, default in (("fold", -1), ("seed", 0), ("class", "all"), ("state", "ok")):
        table[column] = table[column].fillna(default) if column in table else default
    table["patient"] = table["patient"].fillna(table["case"]) if "patient" in table else table["case"]
    for column in ("loss", "case", "class", "metric", "state", "patient"):
        table[column] = table[column].astype(str)
    for column in ("fold", "seed", "value"):
        try:
            table[column] = pd.to_numeric(table[column]).astype(float if column == "value" else int)
        except (ValueError, TypeError) as error:
            raise RecordError(column, f"holds something that is no number ({error})", "mend the table") from error
    fallen = table[table["state"] == "collapsed"]
    runs = fallen.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts(sort=False)
    rows = table[table["state"] != "collapsed"]
    infinite = rows[np.isinf(rows["value"])]
    if len(infinite):
        one = infinite.iloc[0]
        raise RecordError(
            "value",
            f"is infinite in {len(infinite)} row(s), first {one['metric']} of case {one['case']}, loss {one['loss']}",
            "give a miss the diagonal of its image in mm",
        )
    key = ["loss", "fold", "seed", "case", "class", "metric"]
    twice = rows[rows.duplicated(key)]
    if len(twice):
        one = twice.iloc[0]
        raise RecordError(
            "the table",
            f"has {one['metric']} of case {one['case']}, loss {one['loss']} twice",
            "tell repeated trainings apart by a column seed, classes by a column class",
        )
    return rows, {str(loss): int(count) for loss, count in runs.items()}


def pair(rows: pd.DataFrame, metric: str, losses: Sequence[str] | None = None) -> Paired | None:
    """Return the metric's values on the cases that all losses share, None where fewer than one is shared."""
    rows = rows[rows["metric"] == metric]
    if losses is not None:
        rows = rows[rows["loss"].isin(list(losses))]
    if rows.empty:
        return None
    loss_of, names = pd.factorize(rows["loss"])
    seed_of, seeds = pd.factorize(rows["seed"], sort=True)
    item_of, items = pd.factorize(pd.MultiIndex.from_frame(rows[["case", "class"]]), sort=True)
    shape = (len(names), len(seeds), len(items))
    cell = np.ravel_multi_index((loss_of, seed_of, item_of), shape)
    value = rows["value"].to_numpy()
    known = np.isfinite(value)
    counts = np.bincount(cell[known], minlength=int(np.prod(shape)))
    with np.errstate(invalid="ignore"):
        cube = (np.bincount(cell[known], value[known], int(np.prod(shape))) / counts).reshape(shape)
    absent = np.zeros(shape, dtype=bool)
    absent.reshape(-1)[cell[(rows["state"] == "correct_absence").to_numpy() & ~known]] = True
    seen = np.isfinite(cube).any(axis=(0, 1))
    cube[absent & np.isnan(cube) & seen] = BEST[metric in HIGHER_IS_BETTER]
    shared = np.isfinite(cube).any(axis=1).all(axis=0)
    if not shared.any():
        return None
    case_of, cases = pd.factorize(items.get_level_values(0).to_numpy()[np.flatnonzero(shared)], sort=True)
    cube = cube[:, :, shared]
    # items are sorted by their case, so that each case is a stretch of them
    begins = np.flatnonzero(np.diff(case_of, prepend=-1))
    facts = rows.drop_duplicates("case").set_index("case").loc[list(cases)]
    return Paired(
        metric=metric,
        losses=tuple(str(name) for name in names),
        cases=tuple(str(case) for case in cases),
        patients=tuple(facts["patient"]),
        folds=facts["fold"].to_numpy(dtype=np.int64),
        values=_by_case(np.nanmean(cube, axis=1), begins),
        seeds=_by_case(cube, begins),
        left_out=int(seen.sum() - shared.sum()),
    )


def _by_case(of_items: Floats, begins: Indices) -> Floats:
    """Average (..., items) over each case's stretch of items; NaN where any item of the case is."""
    sizes = np.diff(begins, append=of_items.shape[-1])
    means: Floats = np.add.reduceat(of_items, begins, axis=-1) / sizes
    return means


def complete_losses(rows: pd.DataFrame, collapsed: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Return the losses that can be compared, and those set aside with the reason.

    A loss whose collapsed runs leave cases without any result, or that has results for fewer than half of the cases,
    would take those cases from all others too: it is reported, and takes no part in the comparison.
    """
    total = rows["case"].nunique()
    covered = rows.groupby("loss", sort=False)["case"].nunique()
    aside = {name: "all its runs collapsed" for name in collapsed if name not in covered.index}
    for name, cases in covered.items():
        if cases < total and collapsed.get(str(name)):
            aside[str(name)] = f"collapsed runs leave it with {cases} of {total} cases"
        elif cases < total / 2:
            aside[str(name)] = f"it has results for {cases} of {total} cases only"
    left = [str(name) for name in covered.index if str(name) not in aside]
    if len(left) < 2 <= len(covered):  # nothing to compare with otherwise: better few cases than none
        return [str(name) for name in covered.index], {n: why for n, why in aside.items() if n not in covered.index}
    return left, aside
