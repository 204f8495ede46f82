"""Convert the long table to values that can be compared: one per loss and case, on the same cases for every loss.

The score of a result depends on that result alone, never on the results of another loss in the same case:

- A correct absence (neither reference nor prediction shows the class) counts as the best value of the metric.
- A collapsed run counts as a failure in each of its cases: overlap 0, and the distance that a miss costs.
- A missing value without a state that explains it is refused. Libraries write NaN where one mask is empty; dropping it
  would favor the loss that misses most.

A class of a case is compared if every loss has a result for it. Otherwise it is excluded for every loss, and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records.metrics import Metric, metric_of
from pipeline.records.states import REFERENCE_ABSENT, State

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Values of one metric for each loss and case, averaged over classes and seeds.

    Attributes
    ----------
    metric
        Name of the metric.
    losses
        Names, in the order of the table.
    cases
        Cases for which every loss has a value.
    patients, folds
        Patient and fold of each case (cases,); the fold is -1 if the table has none.
    values
        Means over seeds (losses, cases), in the metric's unit.
    values_by_seed
        Values of each seed (losses, seeds, cases); NaN where a loss was not trained with a seed.
    case_weights
        (cases,) with a mean of 1. The weighted mean over cases equals the mean over classes of each class's mean over
        cases. All weights are 1 if every case has a result for every class.
    excluded_count
        Number of classes of cases for which some loss has a value and another has none.
    imputed_count
        Number of values of collapsed runs for which the table does not state the cost of a miss. The largest value of
        the case, or else of the table, was used.
    """

    metric: str
    losses: tuple[str, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    folds: Indices
    values: Floats
    values_by_seed: Floats
    case_weights: Floats
    excluded_count: int = 0
    imputed_count: int = 0

    @property
    def info(self) -> Metric:
        """Definition of the metric."""
        return metric_of(self.metric)

    @property
    def higher_is_better(self) -> bool:
        """True if larger values of the metric are better."""
        return self.info.higher_is_better

    def best_first(self, first: str | None = None) -> list[str]:
        """Return the losses from the best mean to the worst, after `first` if it is one of them."""
        order = np.argsort(-self.means if self.higher_is_better else self.means, kind="stable")
        return sorted((self.losses[int(index)] for index in order), key=lambda name: name != first)

    @property
    def means(self) -> Floats:
        """Mean over cases of each loss (losses,); every class has the same weight."""
        return np.asarray(np.average(self.values, axis=1, weights=self.case_weights), dtype=np.float64)


def pair(
    rows: pd.DataFrame, metric: str, losses: Sequence[str] | None = None, miss_value: float | None = None
) -> Paired | None:
    """Return the metric's values on the cases that all losses share; None if they share no case.

    Parameters
    ----------
    rows
        From `pipeline.comparison.long_table.usable_rows`.
    metric
        Name of the metric.
    losses
        Losses to compare; all by default.
    miss_value
        Value of a missing distance in mm, for tables that do not state the cost of a miss.

    Raises
    ------
    RecordError
        If a value is missing without a state that explains it.

    Examples
    --------
    >>> table = pd.DataFrame({"case": ["a", "b"] * 2, "value": [0.5, 0.7, 0.9, 0.9], "metric": "dice"})
    >>> rows = table.assign(**{"loss": ["ce"] * 2 + ["dice"] * 2, "fold": 0, "seed": 0, "class": "organ"})
    >>> paired = pair(rows.assign(state="ok", patient=rows["case"]), "dice")
    >>> paired.losses, paired.means.round(3).tolist()
    (('ce', 'dice'), [0.6, 0.9])
    """
    rows = rows[rows["metric"] == metric]
    if losses is not None:
        rows = rows[rows["loss"].isin(list(losses))]
    if rows.empty:
        return None
    rows, imputed = _completed(rows[rows["class"].isin(_occurring(rows))], metric_of(metric), miss_value)
    loss_of, names = pd.factorize(rows["loss"])
    seed_of, seeds = pd.factorize(rows["seed"], sort=True)
    item_of, items = pd.factorize(pd.MultiIndex.from_frame(rows[["case", "class"]]), sort=True)
    cube = np.full((len(names), len(seeds), len(items)), np.nan)
    cube[loss_of, seed_of, item_of] = rows["value"].to_numpy()
    has_any = np.isfinite(cube).any(axis=(0, 1))
    shared = np.isfinite(cube).any(axis=1).all(axis=0)
    if not shared.any():
        return None
    items, cube = items[shared], cube[:, :, shared]
    class_of, _ = pd.factorize(items.get_level_values(1))
    case_of, cases = pd.factorize(items.get_level_values(0), sort=True)
    # Each class has the same weight, however many cases have results for it.
    item_weights = (1.0 / np.bincount(class_of))[class_of]
    # Items are sorted by case, so that the items of one case are contiguous (as `np.add.reduceat` requires).
    begins = np.flatnonzero(np.diff(case_of, prepend=-1))
    case_weights = np.add.reduceat(item_weights, begins)
    facts = rows.drop_duplicates("case").set_index("case").loc[list(cases)]
    return Paired(
        metric=metric,
        losses=tuple(str(name) for name in names),
        cases=tuple(str(case) for case in cases),
        patients=tuple(facts["patient"]),
        folds=facts["fold"].to_numpy(dtype=np.int64),
        values=_by_case(np.nanmean(cube, axis=1), item_weights, begins),
        values_by_seed=_by_case(cube, item_weights, begins),
        case_weights=case_weights / case_weights.mean(),
        excluded_count=int(has_any.sum() - shared.sum()),
        imputed_count=imputed,
    )


def _by_case(values: Floats, weights: Floats, begins: Indices) -> Floats:
    """Return the weighted mean of each case from items (..., items); NaN if any item of the case is NaN."""
    means: Floats = np.add.reduceat(values * weights, begins, axis=-1) / np.add.reduceat(weights, begins)
    return means


def _occurring(rows: pd.DataFrame) -> list[str]:
    """Return the classes that some reference shows; all classes if none is known to occur.

    A class that no case has, such as an unused entry of a long list of organs, has only correct absences and would
    dilute every difference. `Verdict.presence` counts its false positives.
    """
    occurring = rows.loc[~rows["state"].isin(REFERENCE_ABSENT), "class"].unique()
    return [str(name) for name in (occurring if len(occurring) else rows["class"].unique())]


def _completed(rows: pd.DataFrame, metric: Metric, miss_value: float | None) -> tuple[pd.DataFrame, int]:
    """Return the rows with a value for each absence, miss and failure, and the number of imputed values."""
    value = rows["value"].to_numpy(dtype=np.float64, copy=True)
    state = rows["state"].to_numpy()
    absent = state == State.CORRECT_ABSENCE
    value[absent & np.isnan(value)] = metric.best
    collapsed = (state == State.COLLAPSED) & np.isnan(value)
    unexplained = np.isnan(value) & ~collapsed
    if unexplained.any():
        if metric.higher_is_better:
            known = np.isin(state, (State.MISSED, State.FALSE_POSITIVE))
            value[unexplained & known] = metric.worst
        elif miss_value is not None:
            value[unexplained] = miss_value
        unexplained &= np.isnan(value)
    if unexplained.any():
        one = rows.iloc[int(np.flatnonzero(unexplained)[0])]
        remedy = "set state to correct_absence if both masks are empty; a miss has overlap 0"
        if not metric.higher_is_better:
            remedy = (
                "give the value of a miss, for example the image's diagonal in mm (--miss-value 300); set state to "
                "correct_absence if both masks are empty"
            )
        raise RecordError(
            metric.name,
            f"is missing in {int(unexplained.sum())} row(s), first for case {one['case']}, loss {one['loss']}; "
            "dropping it would favor the loss that misses most",
            remedy,
        )
    imputed = 0
    if collapsed.any():
        worst = metric.worst if metric.worst is not None else miss_value
        if worst is not None:
            value[collapsed] = worst
        else:
            imputed = int(collapsed.sum())
            of_case = pd.Series(value).groupby(rows["case"].to_numpy()).transform("max").to_numpy()
            value[collapsed] = np.where(np.isfinite(of_case), of_case, np.nanmax(value, initial=0.0))[collapsed]
    return rows.assign(value=value), imputed
