"""From the long table to values that can be compared: one per loss and case, on the same cases for every loss.

How a result is scored depends on that result alone, never on what another loss found in the same case:

- A correct absence (nothing there, nothing found) counts as the best value of the metric.
- A collapsed run counts as a failure in each of its cases: overlap 0, and the distance that a miss costs.
- A value that is missing without a reason is refused. Libraries write NaN where one mask is empty; dropping it would
  make the loss that misses most look best.

What is left out is left out for every loss and counted: a class of a case is compared where every loss has a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records.metrics import Metric, metric_of

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

PRESENT = ("ok", "missed")
"""States of a class that the reference shows."""


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
    weights
        (cases,) with a mean of 1: the weighted mean over cases is the mean over classes of each class's mean over
        cases. All are 1 where every case has a result for every class.
    left_out
        Classes of cases that some loss has a value for and another has not.
    filled
        Values of collapsed runs for which the table does not say what a miss costs; the largest value of the case, or
        of the table, was used.
    """

    metric: str
    losses: tuple[str, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    folds: Indices
    values: Floats
    seeds: Floats
    weights: Floats
    left_out: int = 0
    filled: int = 0

    @property
    def info(self) -> Metric:
        """What the registry knows of the metric."""
        return metric_of(self.metric)

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.info.higher_is_better

    def best_first(self, first: str | None = None) -> list[str]:
        """Return the losses from the best mean to the worst, after `first` where it is one of them."""
        order = np.argsort(-self.means if self.higher_is_better else self.means, kind="stable")
        return sorted((self.losses[int(index)] for index in order), key=lambda name: name != first)

    @property
    def means(self) -> Floats:
        """Mean over cases of each loss, every class with the same weight."""
        return np.asarray(np.average(self.values, axis=1, weights=self.weights), dtype=np.float64)


def usable_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the checked rows, and for each loss how many of its runs collapsed.

    Where every case was predicted by the trainings of several folds, as an external test set is, the folds are repeated
    trainings on one set of cases: they become seeds of a single fold.

    Raises
    ------
    RecordError
        For a missing column, a value that is not a number, an infinite value, two values where there can be one, or a
        case whose fold differs between losses or seeds.
    """
    missing = [name for name in ("loss", "case", "metric", "value") if name not in table]
    if missing:
        raise RecordError(
            "the table", f"lacks the column(s) {', '.join(missing)}", "name the columns loss, case, metric, value"
        )
    rows = table.copy()
    for column, default in (("fold", -1), ("seed", 0), ("class", "all"), ("state", "ok")):
        rows[column] = rows[column].fillna(default) if column in rows else default
    rows["patient"] = rows["patient"].fillna(rows["case"]) if "patient" in rows else rows["case"]
    for column in ("loss", "case", "class", "metric", "state", "patient"):
        rows[column] = rows[column].astype(str)
    for column in ("fold", "seed", "value"):
        try:
            rows[column] = pd.to_numeric(rows[column]).astype(float if column == "value" else int)
        except (ValueError, TypeError) as error:
            raise RecordError(column, f"holds a value that is not a number ({error})", "correct the table") from error
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
    fallen = rows[rows["state"] == "collapsed"]
    runs = fallen.drop_duplicates(["loss", "fold", "seed"])["loss"].value_counts(sort=False)
    return _with_one_fold_per_case(rows), {str(loss): int(count) for loss, count in runs.items()}


def _with_one_fold_per_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in which each case has one fold; folds that predict the same test set become seeds."""
    places = rows[["loss", "seed", "case", "fold"]].drop_duplicates()
    folds_of_case = places.drop_duplicates(["case", "fold"]).groupby("case")["fold"]
    if (folds_of_case.size() == 1).all():
        return rows
    trainings = places[["loss", "seed", "fold"]].drop_duplicates().groupby("loss").size()
    results = places.groupby(["loss", "case"]).size()
    every = results.groupby("loss").agg(["min", "max"])
    one_test_set = (every["min"] == trainings).all() and (every["max"] == trainings).all()
    if one_test_set:
        number = pd.factorize(pd.MultiIndex.from_frame(rows[["fold", "seed"]]), sort=True)[0]
        return rows.assign(seed=number, fold=0)
    case = str(folds_of_case.size().idxmax())
    found = ", ".join(str(fold) for fold in sorted(folds_of_case.get_group(case)))
    raise RecordError(
        "fold",
        f"differs for one case: {case} is in the folds {found}",
        "use the same folds for every loss and seed, or let every training of a test set predict all of its cases",
    )


def pair(
    rows: pd.DataFrame, metric: str, losses: Sequence[str] | None = None, miss_value: float | None = None
) -> Paired | None:
    """Return the metric's values on the cases that all losses share, None where no case is shared.

    Parameters
    ----------
    rows
        From `usable_rows`.
    metric
        Name of the metric.
    losses
        Losses to compare, all by default.
    miss_value
        Value of a missing distance, in the metric's unit, where the table does not say what a miss costs.

    Raises
    ------
    RecordError
        For a value that is missing without a state that explains it.
    """
    rows = rows[rows["metric"] == metric]
    if losses is not None:
        rows = rows[rows["loss"].isin(list(losses))]
    if rows.empty:
        return None
    rows, filled = _completed(rows[rows["class"].isin(_occurring(rows))], metric_of(metric), miss_value)
    loss_of, names = pd.factorize(rows["loss"])
    seed_of, seeds = pd.factorize(rows["seed"], sort=True)
    item_of, items = pd.factorize(pd.MultiIndex.from_frame(rows[["case", "class"]]), sort=True)
    cube = np.full((len(names), len(seeds), len(items)), np.nan)
    cube[loss_of, seed_of, item_of] = rows["value"].to_numpy()
    seen = np.isfinite(cube).any(axis=(0, 1))
    shared = np.isfinite(cube).any(axis=1).all(axis=0)
    if not shared.any():
        return None
    items, cube = items[shared], cube[:, :, shared]
    class_of, _ = pd.factorize(items.get_level_values(1))
    case_of, cases = pd.factorize(items.get_level_values(0), sort=True)
    # each class has the same weight, whatever the number of cases that it has results for
    of_items = (1.0 / np.bincount(class_of))[class_of]
    # items are sorted by their case, so that each case is a stretch of them
    begins = np.flatnonzero(np.diff(case_of, prepend=-1))
    weights = np.add.reduceat(of_items, begins)
    facts = rows.drop_duplicates("case").set_index("case").loc[list(cases)]
    return Paired(
        metric=metric,
        losses=tuple(str(name) for name in names),
        cases=tuple(str(case) for case in cases),
        patients=tuple(facts["patient"]),
        folds=facts["fold"].to_numpy(dtype=np.int64),
        values=_by_case(np.nanmean(cube, axis=1), of_items, begins),
        seeds=_by_case(cube, of_items, begins),
        weights=weights / weights.mean(),
        left_out=int(seen.sum() - shared.sum()),
        filled=filled,
    )


def _by_case(of_items: Floats, weights: Floats, begins: Indices) -> Floats:
    """Average (..., items) over each case's stretch of items; NaN where any item of the case is."""
    means: Floats = np.add.reduceat(of_items * weights, begins, axis=-1) / np.add.reduceat(weights, begins)
    return means


def _occurring(rows: pd.DataFrame) -> list[str]:
    """Return the classes that some reference shows; all where none is known to occur.

    A class that no case has, such as the unused entries of a long list of organs, has nothing but correct absences and
    would only dilute every difference. Its false positives are counted beside the verdict.
    """
    occurring = rows.loc[~rows["state"].isin(["correct_absence", "false_positive"]), "class"].unique()
    return [str(name) for name in (occurring if len(occurring) else rows["class"].unique())]


def _completed(rows: pd.DataFrame, metric: Metric, miss_value: float | None) -> tuple[pd.DataFrame, int]:
    """Return the rows with a value for each absence, miss and failure, and how many had to be guessed."""
    value = rows["value"].to_numpy(dtype=np.float64, copy=True)
    state = rows["state"].to_numpy()
    absent = state == "correct_absence"
    value[absent & np.isnan(value)] = metric.best
    fallen = (state == "collapsed") & np.isnan(value)
    unexplained = np.isnan(value) & ~fallen
    if unexplained.any():
        if metric.higher_is_better:
            known = np.isin(state, ("missed", "false_positive"))
            value[unexplained & known] = metric.worst
        elif miss_value is not None:
            value[unexplained] = miss_value
        unexplained &= np.isnan(value)
    if unexplained.any():
        one = rows.iloc[int(np.flatnonzero(unexplained)[0])]
        remedy = "where reference and prediction are both empty, set state to correct_absence; a miss has overlap 0"
        if not metric.higher_is_better:
            remedy = (
                "give the value of a miss, for example the image's diagonal in mm (--miss-value 300); where reference "
                "and prediction are both empty, set state to correct_absence"
            )
        raise RecordError(
            metric.name,
            f"is missing in {int(unexplained.sum())} row(s), first for case {one['case']}, loss {one['loss']}; "
            "dropping it would favor the loss that misses most",
            remedy,
        )
    filled = 0
    if fallen.any():
        worst = metric.worst if metric.worst is not None else miss_value
        if worst is not None:
            value[fallen] = worst
        else:
            filled = int(fallen.sum())
            of_case = pd.Series(value).groupby(rows["case"].to_numpy()).transform("max").to_numpy()
            value[fallen] = np.where(np.isfinite(of_case), of_case, np.nanmax(value, initial=0.0))[fallen]
    return rows.assign(value=value), filled


def complete_losses(rows: pd.DataFrame, collapsed: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Return the losses that can be compared, and those set aside with the reason.

    A loss that has results for fewer than half of the cases would take those cases from all others too: it is reported,
    and takes no part in the comparison.
    """
    total = rows["case"].nunique()
    covered = rows.groupby("loss", sort=False)["case"].nunique()
    aside = {name: "its runs collapsed and left no cases" for name in collapsed if name not in covered.index}
    for name, cases in covered.items():
        if cases < total / 2:
            aside[str(name)] = f"it has results for {cases} of {total} cases only"
    left = [str(name) for name in covered.index if str(name) not in aside]
    if len(left) < 2 <= len(covered):  # nothing to compare with otherwise: few cases are better than none
        return [str(name) for name in covered.index], {n: why for n, why in aside.items() if n not in covered.index}
    return left, aside
