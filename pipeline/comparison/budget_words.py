"""Write the budget axis of a verdict in sentences for readers without knowledge of statistics."""

from math import floor, log10

from pipeline.comparison.extrapolation import FARTHEST
from pipeline.comparison.phrases import amount, counted, listed, phrase, signed
from pipeline.records.budget_axis import COURSE_WORDS, BudgetAxis, BudgetOutcome, BudgetPair, MarginBudget
from pipeline.records.metrics import metric_of

MAXIMUM_PAIRS = 3
"""Crossing or closing pairs with a sentence of their own; the table has all."""

SOON = 1.05
"""An interval that begins below this multiple of the largest budget begins there."""

IN_COUNTS = {
    "crossing": ("crosses", "cross"),
    "closing": ("is closing", "are closing"),
    "settled": ("is settled", "are settled"),
    "within_margin": ("is within the margin", "are within the margin"),
    "cannot_tell": ("cannot be told", "cannot be told"),
}
"""Verbs for the courses of one pair and of several."""


def per_run(axis: BudgetAxis) -> str:
    """Return the largest budget as part of a sentence, for example ``after 1,400 steps per run``."""
    return f"after {axis.steps[-1]:,} steps per run"


def budget_sentences(axis: BudgetAxis) -> tuple[str, ...]:
    """Return whether the smaller budgets gave the same verdict, and how many pairs have which course."""
    return (_smaller_budgets(axis), _counts(axis)) if axis.pairs else (_smaller_budgets(axis),)


def course_sentences(axis: BudgetAxis) -> tuple[str, ...]:
    """Return a sentence for each of the first crossing and closing pairs."""
    telling = [*axis.pairs_with("crossing"), *axis.pairs_with("closing")]
    return tuple(pair_sentence(pair, axis) for pair in telling[:MAXIMUM_PAIRS])


def _smaller_budgets(axis: BudgetAxis) -> str:
    *smaller, largest = axis.outcomes
    same = [item for item in smaller if _answer(item) == _answer(largest)]
    other = [item for item in smaller if item not in same]
    if not other:
        return f"The verdict was the same after {_steps(same)} steps."
    changed = "; ".join(f"{_answer(item)} after {item.steps:,} steps" for item in other)
    rest = f", and the same after {_steps(same)} steps" if same else ""
    return f"Smaller budgets gave another verdict: {changed}{rest}."


def _answer(outcome: BudgetOutcome) -> str:
    use = f", use {outcome.recommended}" if outcome.recommended else ""
    return f"{outcome.verdict}{use}"


def _steps(outcomes: list[BudgetOutcome]) -> str:
    return listed([f"{item.steps:,}" for item in outcomes])


def _counts(axis: BudgetAxis) -> str:
    counts = []
    for course, verbs in IN_COUNTS.items():
        number = sum(pair.course == course for pair in axis.pairs)
        if number:
            counts.append(f"{number} {verbs[number > 1]}")
    return f"Over the budgets, of {counted(len(axis.pairs), 'pair', 'pairs')} {listed(counts)}."


def pair_sentence(pair: BudgetPair, axis: BudgetAxis) -> str:
    """Return the differences of a pair at all budgets, and its course."""
    info = metric_of(axis.metric)
    values = listed([signed(info.factor * item.difference) for item in pair.differences])
    gaps = f"{pair.a} minus {pair.b}: {values} {info.displayed_unit} of {phrase(axis.metric)}"
    steps = listed([f"{item.steps:,}" for item in pair.differences])
    note = course_note(pair, axis)
    return f"{gaps} after {steps} steps: {COURSE_WORDS[pair.course]}{f', {note}' if note else ''}."


def course_note(pair: BudgetPair, axis: BudgetAxis) -> str:
    """Return what else is known of the course of a pair, in a few words."""
    if pair.course == "crossing" and pair.turn is not None:
        better = {item.steps: item.better for item in pair.differences}
        first, then = pair.turn
        return f"{better[first]} is better after {first:,} steps and {better[then]} after {then:,}"
    if pair.course in ("closing", "settled"):
        return _reach(pair.margin_budget, axis)
    return ""


def _reach(budget: MarginBudget | None, axis: BudgetAxis) -> str:
    """Return from which budget a gap would be within the margin."""
    margin = f"within the margin of {amount(axis.metric, axis.margin)}"
    if budget is None:
        return f"but the fall accelerates, so that it is unknown when it would be {margin}"
    if budget.low is None:
        return f"not {margin} up to {rounded(axis.farthest)} steps ({FARTHEST:g} times the largest budget)"
    if budget.high is None:
        if budget.low < SOON * axis.steps[-1]:
            return f"but it is unknown when it would be {margin}, if ever"
        return f"{margin} at {rounded(budget.low)} steps at the earliest, if ever"
    low, high = rounded(budget.low), rounded(budget.high)
    if low == high:
        return f"{margin} from about {low} steps on"
    span = f"{low} to {high} steps"
    return f"{margin} from {span if budget.best is None else f'about {rounded(budget.best)} ({span})'} on"


def rounded(steps: float) -> str:
    """Return an extrapolated budget with two digits.

    Examples
    --------
    >>> rounded(2938.4), rounded(14000), rounded(96.2)
    ('2,900', '14,000', '96')
    """
    size = max(floor(log10(steps)) - 1, 0)
    return f"{round(steps / 10**size) * 10**size:,}"
