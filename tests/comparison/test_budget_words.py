import pytest

from pipeline.comparison.budget_words import budget_sentences, course_note, course_sentences, per_run
from pipeline.records.budget_axis import (
    BudgetAxis,
    BudgetDifference,
    BudgetOutcome,
    BudgetPair,
    MarginBudget,
)

STEPS = (100, 400, 1400)


def pair(course="closing", better=("a", "a", "a"), leads=(0.0409, 0.0193, 0.0094), reach=None):
    differences = tuple(
        BudgetDifference(steps=steps, difference=lead, ci_low=lead - 0.01, ci_high=lead + 0.01, p_holm=0.01, better=who)
        for steps, lead, who in zip(STEPS, leads, better, strict=True)
    )
    return BudgetPair(a="a", b="b", differences=differences, course=course, margin_budget=reach)


def axis(*pairs, outcomes=(("winner", "a"), ("winner", "a"), ("winner", "a"))):
    return BudgetAxis(
        metric="dice",
        margin=0.005,
        steps=STEPS,
        cases=200,
        farthest=14_000,
        outcomes=tuple(
            BudgetOutcome(steps=steps, verdict=kind, recommended=loss)
            for steps, (kind, loss) in zip(STEPS, outcomes, strict=True)
        ),
        pairs=pairs,
    )


def test_the_same_verdict_at_all_budgets_takes_one_sentence():
    assert budget_sentences(axis()) == ("The verdict was the same after 100 and 400 steps.",)
    assert per_run(axis()) == "after 1,400 steps per run"


def test_other_verdicts_are_named():
    outcomes = (("inconclusive", "b"), ("winner", "a"), ("winner", "a"))
    assert budget_sentences(axis(outcomes=outcomes)) == (
        "Smaller budgets gave another verdict: inconclusive, use b after 100 steps, and the same after 400 steps.",
    )


def test_pairs_are_counted_by_course():
    found = axis(pair(), pair("crossing", ("b", None, "a")), pair("cannot_tell"), pair("cannot_tell"))
    assert budget_sentences(found)[1] == "Over the budgets, of 4 pairs 1 crosses, 1 is closing and 2 cannot be told."


@pytest.mark.parametrize(
    ("reach", "note"),
    [
        (
            MarginBudget(low=2938.0, best=4410.0, high=8120.0),
            "within the margin of 0.50 points from about 4,400 (2,900 to 8,100 steps) on",
        ),
        (
            MarginBudget(low=1411.0, high=1421.0),
            "within the margin of 0.50 points from about 1,400 steps on",
        ),
        (
            MarginBudget(low=1411.0, high=2800.0),
            "within the margin of 0.50 points from 1,400 to 2,800 steps on",
        ),
        (MarginBudget(low=2938.0), "within the margin of 0.50 points at 2,900 steps at the earliest, if ever"),
        (MarginBudget(low=1400.0), "but it is unknown when it would be within the margin of 0.50 points, if ever"),
        (MarginBudget(), "not within the margin of 0.50 points up to 14,000 steps (10 times the largest budget)"),
        (
            None,
            "but the fall accelerates, so that it is unknown when it would be within the margin of 0.50 points",
        ),
    ],
)
def test_a_closing_pair_says_no_more_than_its_interval(reach, note):
    assert course_note(pair(reach=reach), axis()) == note


def test_the_sentence_on_a_crossing_pair_names_both_budgets():
    crossing = pair("crossing", ("b", None, "a"), (-0.02, 0.001, 0.02))
    assert course_sentences(axis(crossing)) == (
        "a minus b: -2.00, +0.10 and +2.00 points of Dice after 100, 400 and 1,400 steps: crossing, b is better after "
        "100 steps and a after 1,400.",
    )


def test_only_a_few_pairs_have_sentences_the_crossing_ones_first():
    lines = course_sentences(axis(pair(), pair(), pair(), pair("crossing", ("b", None, "a"))))
    assert len(lines) == 3
    assert "crossing" in lines[0]
