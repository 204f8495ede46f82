"""Compare losses at each budget of a study with several budgets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.comparison.arms import Arms
from pipeline.comparison.budget_courses import budget_pairs
from pipeline.comparison.extrapolation import FARTHEST
from pipeline.comparison.judgement import judge, select_classes
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import Comparison, compare_pairs, margin_of
from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import RecordError
from pipeline.records.budget_axis import BudgetAxis, BudgetMean, BudgetOutcome
from pipeline.records.states import State
from pipeline.records.verdict import Verdict

_AT = "\t"
"""Stands between the steps and the loss in the names under which all budgets are paired together."""


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """Results at smaller budgets, and the budget of the main table.

    Attributes
    ----------
    rows
        Long table with the column `steps`, the budget in optimizer steps, and those of the main table.
    largest
        Optimizer steps of the main table.

    Raises
    ------
    RecordError
        If the table lacks the column, or has a budget that is not smaller.
    """

    rows: pd.DataFrame
    largest: int

    def __post_init__(self) -> None:
        if "steps" not in self.rows:
            raise RecordError("the table of budgets", "lacks the column steps", "give the budget of each row in steps")
        wrong = sorted(int(steps) for steps in self.rows["steps"].unique() if not 0 < steps < self.largest)
        if wrong:
            raise RecordError(
                "the table of budgets",
                f"has results after {wrong[0]} steps, which is no smaller budget than {self.largest}",
                "give results at smaller budgets only",
            )

    @property
    def smaller(self) -> tuple[int, ...]:
        """The smaller budgets in steps, ascending."""
        return tuple(sorted(int(steps) for steps in self.rows["steps"].unique()))

    def at(self, steps: int) -> pd.DataFrame:
        """Return the results at one of the smaller budgets."""
        return self.rows[self.rows["steps"] == steps]


def budget_axis(
    table: pd.DataFrame,
    budgets: BudgetTable,
    verdict: Verdict,
    arms: Arms,
    settings: ComparisonSettings,
    training_seconds: Mapping[str, float] | None = None,
) -> BudgetAxis | None:
    """Compare the losses at each budget, on the cases that all losses share at all budgets.

    Parameters
    ----------
    table
        Results at the largest budget.
    budgets
        Results at the smaller budgets.
    verdict
        The verdict at the largest budget.
    arms
        Losses that are compared at the largest budget.
    settings
        Metrics, classes, margins and confidence.
    training_seconds
        Mean time of a training of each loss, as for `pipeline.comparison.verdict.compare`.

    Returns
    -------
    BudgetAxis or None
        None without two budgets at which the deciding metric has values on common cases.

    Raises
    ------
    RecordError
        If the table of budgets is malformed.
    """
    metric = verdict.primary
    paired = _paired_by_budget(table, budgets, metric, arms, settings)
    if len(paired) < 2:
        return None
    margins, confidence, training_sd = settings.margins, settings.confidence, settings.training_sd
    compared = {steps: compare_pairs(item, margins, confidence, training_sd) for steps, item in paired.items()}
    outcomes = [_outcome(budgets, steps, verdict, arms, settings, training_seconds) for steps in list(paired)[:-1]]
    outcomes.append(BudgetOutcome(steps=budgets.largest, verdict=verdict.verdict, recommended=verdict.recommended))
    return BudgetAxis(
        metric=metric,
        margin=margin_of(metric, margins),
        steps=tuple(paired),
        cases=len(paired[budgets.largest].cases),
        farthest=FARTHEST * budgets.largest,
        outcomes=tuple(outcomes),
        means=tuple(
            mean
            for steps, item in compared.items()
            for mean in _means(steps, item, settings)
            if mean.loss not in arms.controls
        ),
        pairs=tuple(budget_pairs(compared, arms.controls, training_sd)),
    )


def _paired_by_budget(
    table: pd.DataFrame, budgets: BudgetTable, metric: str, arms: Arms, settings: ComparisonSettings
) -> dict[int, Paired]:
    """Return the values of the losses that have results at all budgets, on the same cases at each; may be empty.

    All budgets are paired at once, each loss at each budget under a name of its own. The cases, classes and seeds are
    therefore the same.
    """
    together = pd.concat([budgets.rows, table.assign(steps=budgets.largest)], ignore_index=True)
    together = together[together["metric"] == metric]
    if "patient" in table:
        patients = table.drop_duplicates("case").set_index("case")["patient"]
        together = together.assign(patient=together["case"].map(patients).fillna(together["case"]))
    names = together["steps"].astype(int).astype(str) + _AT + together["loss"].astype(str)
    rows, _ = usable_rows(together.assign(loss=names))
    rows = select_classes(rows, settings.classes)
    steps = (*budgets.smaller, budgets.largest)
    known = set(rows["loss"])
    losses = [loss for loss in arms.names if all(f"{at}{_AT}{loss}" in known for at in steps)]
    if not set(losses) & set(arms.candidates):
        return {}
    joint = pair(rows, metric, [f"{at}{_AT}{loss}" for at in steps for loss in losses], settings.miss_value)
    if joint is None:
        return {}
    return {at: _selected(joint, [f"{at}{_AT}{loss}" for loss in losses], losses) for at in steps}


def _selected(joint: Paired, names: list[str], losses: list[str]) -> Paired:
    """Return the values of some names of a joint pairing, renamed to losses."""
    places = [joint.losses.index(name) for name in names]
    values, by_seed = joint.values[places], joint.values_by_seed[places]
    return replace(joint, losses=tuple(losses), values=values, values_by_seed=by_seed)


def _means(steps: int, item: Comparison, settings: ComparisonSettings) -> list[BudgetMean]:
    intervals = item.intervals_of_means(settings.resamples, settings.seed)
    return [
        BudgetMean(steps=steps, loss=loss, mean=float(mean), ci_low=bounds[0], ci_high=bounds[1])
        for loss, mean in zip(item.paired.losses, item.paired.means, strict=True)
        for bounds in [intervals.get(loss, (None, None))]
    ]


def _outcome(
    budgets: BudgetTable,
    steps: int,
    verdict: Verdict,
    arms: Arms,
    settings: ComparisonSettings,
    training_seconds: Mapping[str, float] | None,
) -> BudgetOutcome:
    """Return the verdict at a smaller budget, with the metrics that decide at the largest."""
    rows, collapsed = usable_rows(budgets.at(steps))
    rows = select_classes(rows, settings.classes)
    if (rows["state"] == State.COLLAPSED).all():
        return BudgetOutcome(steps=steps, verdict="inconclusive", recommended=None)
    others = [name for name in verdict.ranking if name != verdict.primary and (rows["metric"] == name).any()]
    chosen = replace(settings, metrics=(verdict.primary, *others))
    judgement = judge(rows, arms, collapsed, chosen, arms.dropped, training_seconds)
    return BudgetOutcome(steps=steps, verdict=judgement.kind, recommended=judgement.choice.loss)
