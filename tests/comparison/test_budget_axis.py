import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.budget_axis import BudgetTable
from pipeline.comparison.budget_courses import chosen_budgets
from pipeline.errors import RecordError
from pipeline.records.verdict import Verdict

STEPS = (100, 200, 400, 800)
FAST = ComparisonSettings(resamples=20)


def tables(
    means: Mapping[str, Sequence[float]],
    steps: Sequence[int] = STEPS,
    noise: float = 0.0005,
    metric: str = "dice",
    seed: int = 0,
    cases: int = 40,
) -> tuple[pd.DataFrame, BudgetTable]:
    """Return results with these means at each budget, with noise of cases, and five folds."""
    random = np.random.default_rng(seed)
    difficulty = 0.05 * random.standard_normal(cases)
    frames = []
    for at, budget in enumerate(steps):
        for loss, levels in means.items():
            value = levels[at] + difficulty + noise * random.standard_normal(cases)
            frame = pd.DataFrame({"case": [f"c{i:02d}" for i in range(cases)], "fold": np.arange(cases) % 5})
            frames.append(frame.assign(loss=loss, seed=0, metric=metric, value=value, steps=budget))
    rows = pd.concat(frames, ignore_index=True)
    largest = rows[rows["steps"] == steps[-1]].drop(columns="steps")
    return largest, BudgetTable(rows[rows["steps"] < steps[-1]], steps[-1])


def judged(means: Mapping[str, Sequence[float]], **options) -> Verdict:
    table, budgets = tables(means, **options)
    return compare(table, FAST, budgets=budgets)


LEADS = {
    "parallel": ((0.82, 0.82, 0.82, 0.82), "settled"),
    "growing": ((0.805, 0.81, 0.813, 0.815), "settled"),
    "closing": ((0.84, 0.83, 0.82, 0.81), "closing"),
    "crossing": ((0.78, 0.79, 0.805, 0.81), "crossing"),
    "closed": ((0.82, 0.81, 0.805, 0.802), "within_margin"),
}


@pytest.mark.parametrize("name", LEADS)
def test_each_course_is_recognized(name):
    lead, course = LEADS[name]
    axis = judged({"a": lead, "b": (0.8,) * 4}).budgets
    assert [pair.course for pair in axis.pairs] == [course]
    assert [round(item.difference, 2) for item in axis.pairs[0].differences] == pytest.approx(
        [round(value - 0.8, 2) for value in lead], abs=0.0101
    )


def test_noise_that_hides_the_lead_gives_no_course():
    axis = judged({"a": (0.801,) * 4, "b": (0.8,) * 4}, noise=0.05).budgets
    assert axis.pairs[0].course == "cannot_tell"
    assert axis.pairs[0].margin_budget is None


def test_a_lead_of_four_points_that_halves_with_each_doubling_reaches_the_margin_after_one_more():
    """4, 2, 1 points after 100, 200 and 400 steps: 0.5 points, the margin, after 800."""
    axis = judged({"a": (0.84, 0.82, 0.81), "b": (0.8,) * 3}, steps=(100, 200, 400), noise=0.0001).budgets
    found = axis.pairs[0].margin_budget
    assert axis.pairs[0].course == "closing"
    assert found.best == pytest.approx(800, rel=0.03)
    assert found.low <= found.best <= found.high


def test_a_lead_that_collapses_is_not_extrapolated():
    axis = judged({"a": (0.83, 0.83, 0.828, 0.81), "b": (0.8,) * 4}).budgets
    assert axis.pairs[0].course == "closing"
    assert axis.pairs[0].margin_budget is None


def test_the_turn_of_a_crossing_is_between_the_last_clear_lead_of_one_and_the_first_of_the_other():
    axis = judged({"a": (0.78, 0.79, 0.81, 0.82), "b": (0.8,) * 4}).budgets
    assert axis.pairs[0].turn == (200, 400)


def test_smaller_distances_are_better():
    verdict = judged({"a": (9.0, 8.0, 3.0, 3.0), "b": (5.0,) * 4}, metric="hausdorff95_mm", noise=0.05)
    assert verdict.budgets.pairs[0].course == "crossing"
    assert [outcome.recommended for outcome in verdict.budgets.outcomes] == ["b", "b", "a", "a"]


def test_each_budget_has_the_verdict_that_its_own_table_gives():
    table, budgets = tables({"ce": (0.78, 0.79, 0.805, 0.81), "dice": (0.8,) * 4})
    axis = compare(table, FAST, budgets=budgets).budgets
    for outcome in axis.outcomes[:-1]:
        alone = compare(budgets.at(outcome.steps), FAST)
        assert (outcome.verdict, outcome.recommended) == (alone.verdict, alone.recommended)
    whole = compare(table, FAST)
    assert (axis.outcomes[-1].verdict, axis.outcomes[-1].recommended) == (whole.verdict, whole.recommended)


def test_the_differences_at_the_largest_budget_are_those_of_the_verdict():
    verdict = judged({"a": (0.84, 0.83, 0.82, 0.81), "b": (0.8,) * 4, "c": (0.7, 0.75, 0.78, 0.79)})
    for pair, course in zip(verdict.primary_pairs, verdict.budgets.pairs, strict=True):
        last = course.differences[-1]
        assert (pair.a, pair.b) == (course.a, course.b)
        assert (pair.difference, pair.ci_low) == pytest.approx((last.difference, last.ci_low))
        assert pair.better == last.better
    means = {mean.loss: mean.mean for mean in verdict.budgets.means if mean.steps == 800}
    assert means == pytest.approx({loss.name: loss.metrics["dice"].mean for loss in verdict.losses})


def test_two_budgets_have_courses_and_no_best_guess():
    axis = judged({"a": (0.84, 0.82), "b": (0.8, 0.8)}, steps=(100, 400)).budgets
    assert axis.pairs[0].course == "closing"
    assert axis.pairs[0].margin_budget.best is None


def test_controls_have_no_courses_and_no_means():
    axis = judged({"dice": (0.82,) * 4, "dice-aa": (0.82,) * 4, "ce": (0.8,) * 4}).budgets
    assert [(pair.a, pair.b) for pair in axis.pairs] == [("dice", "ce")]
    assert axis.losses == ("dice", "ce")


def test_a_loss_that_the_race_dropped_is_not_compared():
    table, budgets = tables({"a": (0.82,) * 4, "b": (0.8,) * 4, "c": (0.7,) * 4})
    part = budgets.rows[(budgets.rows["loss"] != "c") | (budgets.rows["fold"] == 0)]
    axis = compare(table, FAST, budgets=BudgetTable(part, 800), dropped={"c": "far behind"}).budgets
    assert axis.losses == ("a", "b")
    assert axis.cases == 40


def test_only_cases_with_results_at_every_budget_are_compared():
    table, budgets = tables({"a": (0.82,) * 4, "b": (0.8,) * 4})
    gap = (budgets.rows["steps"] == 200) & (budgets.rows["loss"] == "b") & (budgets.rows["case"] == "c00")
    assert compare(table, FAST, budgets=BudgetTable(budgets.rows[~gap], 800)).budgets.cases == 39


def test_a_loss_that_collapsed_at_a_small_budget_counts_as_a_failure_there():
    table, budgets = tables({"a": (0.8,) * 4, "b": (0.8, 0.81, 0.815, 0.82)})
    failed = (budgets.rows["steps"] == 100) & (budgets.rows["loss"] == "a")
    rows = budgets.rows.assign(state=np.where(failed, "collapsed", "ok"))
    rows.loc[failed, "value"] = np.nan
    axis = compare(table, FAST, budgets=BudgetTable(rows, 800)).budgets
    assert axis.means_of("a")[0].mean == 0
    assert axis.outcomes[0].recommended == "b"


def test_without_replicated_trainings_nothing_is_said_of_courses():
    table, budgets = tables({"a": (0.84, 0.83, 0.82, 0.81), "b": (0.8,) * 4})
    once = BudgetTable(budgets.rows.assign(fold=0), 800)
    axis = compare(table.assign(fold=0), FAST, budgets=once).budgets
    assert {pair.course for pair in axis.pairs} == {"cannot_tell"}
    known = ComparisonSettings(resamples=20, training_sd=0.0001)
    assert compare(table.assign(fold=0), known, budgets=once).budgets.pairs[0].course == "closing"


def test_patients_of_the_main_table_are_those_of_all_budgets():
    table, budgets = tables({"a": (0.82,) * 4, "b": (0.8,) * 4})
    of_patients = table.assign(patient="p" + (table["case"].str[1:].astype(int) // 10).astype(str), fold=0)
    axis = compare(of_patients, FAST, budgets=BudgetTable(budgets.rows.assign(fold=0), 800)).budgets
    alone = compare(of_patients, FAST).primary_pairs[0]
    assert axis.pairs[0].differences[-1].ci_low == pytest.approx(alone.ci_low)


def test_one_loss_has_means_and_no_pairs():
    axis = judged({"a": (0.8, 0.81, 0.82, 0.83)}).budgets
    assert axis.pairs == ()
    assert len(axis.means) == 4


def test_one_budget_leaves_the_verdict_as_it_was():
    table, _ = tables({"a": (0.82,) * 4, "b": (0.8,) * 4})
    verdict = compare(table, FAST)
    assert verdict.budgets is None
    assert "budgets" not in verdict.to_json()
    assert json.dumps(verdict.to_json()) == json.dumps(compare(table, FAST, budgets=None).to_json())


def test_the_axis_survives_json():
    verdict = judged({"a": (0.84, 0.83, 0.82, 0.81), "b": (0.8,) * 4})
    content = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.model_validate_json(content).budgets == verdict.budgets


def test_a_budget_that_is_not_smaller_is_refused():
    _, budgets = tables({"a": (0.82,) * 4, "b": (0.8,) * 4})
    with pytest.raises(RecordError, match="after 400 steps, which is no smaller budget than 400"):
        BudgetTable(budgets.rows, 400)
    with pytest.raises(RecordError, match="lacks the column steps"):
        BudgetTable(budgets.rows.drop(columns="steps"), 800)


def test_the_middle_budget_is_that_of_the_logarithms():
    assert chosen_budgets([10, 20, 1000, 2000]) == (0, 1, 3)
    assert chosen_budgets([100, 900, 1000]) == (0, 1, 2)
    assert chosen_budgets([1, 2, 30, 900, 1000]) == (0, 2, 4)


leads = st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=4)


def axis_of(lead, *, turned=False, steps=STEPS, shuffled=False):
    table, budgets = tables({"a": [0.8 + value for value in lead], "b": [0.8] * 4}, steps=steps, noise=0.01)
    frames = [table, budgets.rows]
    if turned:
        frames = [frame.sort_values("loss", ascending=False, kind="stable") for frame in frames]
    if shuffled:
        frames = [frame.sample(frac=1, random_state=1) for frame in frames]
    axis = compare(frames[0], FAST, budgets=BudgetTable(frames[1], budgets.largest)).budgets
    assert axis is not None
    return axis


def same_reach(one, other, factor=1.0):
    assert (one is None) == (other is None)
    for name in ("low", "best", "high") if one is not None else ():
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None)
        assert first is None or factor * first == pytest.approx(second, rel=1e-4)


@settings(max_examples=10)
@given(leads)
def test_swapping_two_losses_mirrors_their_differences_and_nothing_else(lead):
    one, other = axis_of(lead).pairs[0], axis_of(lead, turned=True).pairs[0]
    assert (one.a, one.b, one.course) == (other.b, other.a, other.course)
    same_reach(one.margin_budget, other.margin_budget)
    for first, second in zip(one.differences, other.differences, strict=True):
        assert first.difference == pytest.approx(-second.difference)
        assert (first.ci_low, first.ci_high) == pytest.approx((-second.ci_high, -second.ci_low))
        assert (first.better, first.equivalent) == (second.better, second.equivalent)


@settings(max_examples=10)
@given(leads, st.sampled_from([3, 10, 25]))
def test_longer_steps_scale_the_extrapolated_budget(lead, factor):
    one, other = axis_of(lead), axis_of(lead, steps=[factor * step for step in STEPS])
    assert one.pairs[0].course == other.pairs[0].course
    same_reach(one.pairs[0].margin_budget, other.pairs[0].margin_budget, factor)
    assert other.farthest == factor * one.farthest


@settings(max_examples=10)
@given(leads)
def test_the_order_of_rows_is_irrelevant(lead):
    one, other = axis_of(lead), axis_of(lead, shuffled=True)
    sign = 1 if one.pairs[0].a == other.pairs[0].a else -1
    differences = [[item.difference for item in axis.pairs[0].differences] for axis in (one, other)]
    assert differences[0] == pytest.approx([sign * value for value in differences[1]])
    assert one.pairs[0].course == other.pairs[0].course
    same_reach(one.pairs[0].margin_budget, other.pairs[0].margin_budget)
    assert one.outcomes == other.outcomes


def test_budgets_that_differ_without_noise_have_courses():
    """Every change between budgets is then the same in all cases, up to rounding."""
    means = {name: (0.8,) * 4 for name in "abc"}
    table, _ = tables(means, noise=0.01)
    behind = {"a": 0.0, "b": 0.04, "c": 0.08}
    frames = [
        table.assign(steps=steps, value=table["value"] - share * table["loss"].map(behind))
        for steps, share in ((100, 1.0), (200, 0.5), (400, 0.25))
    ]
    axis = compare(table, FAST, budgets=BudgetTable(pd.concat(frames), 800)).budgets
    assert len(axis.pairs) == 3
