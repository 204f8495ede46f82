"""The section on the budget: losses over the budgets as a figure, verdicts at each budget, and courses of the pairs."""

from dataclasses import dataclass

from markupsafe import Markup

from pipeline.comparison.budget_words import course_note
from pipeline.comparison.evidence import Evidence
from pipeline.comparison.phrases import counted
from pipeline.records.budget_axis import COURSE_WORDS, BudgetAxis, BudgetDifference, BudgetMean, BudgetPair
from pipeline.records.metrics import Metric, metric_of
from pipeline.report.figure_sections import Figure
from pipeline.report.formatting import NO_VALUE, number, signed, typeset
from pipeline.report.styles import Styles
from pipeline.report.summary import KIND_LABELS
from pipeline.report.svg import WIDTH, Scale, chart, element, fragment, text, y_axis
from pipeline.report.tables import Cell, Table, loss_cell, text_cell, value_cell

LEFT, RIGHT, TOP, BOTTOM = 46.0, WIDTH - 12.0, 10.0, 226.0

SPREAD = 5.0
"""Distance between the marks of two losses at one budget, so that their intervals do not hide each other."""

MAXIMUM_SPREAD = 24.0
"""Largest distance between the first and the last mark at one budget."""


@dataclass(frozen=True, slots=True)
class BudgetSection:
    """Contents of the section; `losses` are those of the figure, for its legend."""

    figure: Figure
    losses: tuple[str, ...]
    means: Table
    pairs: Table


def budget_section(evidence: Evidence, styles: Styles) -> BudgetSection | None:
    """Return the section; None for a study with one budget."""
    axis = evidence.verdict.budgets
    if axis is None:
        return None
    heading = metric_of(axis.metric).heading
    cases = counted(axis.cases, "case", "cases")
    note = "The steps of each run are on a logarithmic axis. Marks of one budget are moved apart."
    figure = Figure(f"{heading} over the budget, {cases}", budget_plot(axis, styles), note)
    return BudgetSection(figure, axis.losses, means_table(axis), courses_table(axis))


def budget_plot(axis: BudgetAxis, styles: Styles) -> Markup:
    """Return the mean of each loss with its interval at each budget; lines connect one loss."""
    bounds = [bound for mean in axis.means for bound in (mean.ci_low, mean.ci_high, mean.mean) if bound is not None]
    up = Scale.around(bounds, BOTTOM, TOP)
    room = MAXIMUM_SPREAD / 2 + 6
    across = Scale(axis.steps[0], axis.steps[-1], LEFT + room, RIGHT - room, logarithmic=True)
    parts = [y_axis(up, LEFT, RIGHT), _ticks(axis, across)]
    spread = min(SPREAD, MAXIMUM_SPREAD / max(len(axis.losses) - 1, 1))
    for index, loss in enumerate(axis.losses):
        shift = spread * (index - (len(axis.losses) - 1) / 2)
        marks = [(across(mean.steps) + shift, mean) for mean in axis.means_of(loss)]
        style = styles[loss]
        path = " ".join(f"{x:.1f},{up(mean.mean):.1f}" for x, mean in marks)
        parts.append(
            element("polyline", points=path, stroke=style.color, stroke_dasharray=style.dash, class_="sweep-line")
        )
        parts += [_mark(x, mean, up, style.color, axis.metric) for x, mean in marks]
    label = f"Mean {metric_of(axis.metric).heading} of each loss over the budget, with intervals"
    return chart(WIDTH, BOTTOM + 34, label, fragment(parts))


def _ticks(axis: BudgetAxis, across: Scale) -> Markup:
    """Return a tick at each budget; labels that would overlap the one before are left out, the last never is."""
    parts: list[Markup] = []
    labels: list[tuple[float, str]] = []
    for steps in axis.steps:
        x, label = across(steps), f"{steps:,}"
        parts.append(element("line", x1=x, x2=x, y1=TOP, y2=BOTTOM, class_="grid"))
        while labels and x - labels[-1][0] < 3.2 * (len(label) + len(labels[-1][1])) + 6:
            labels.pop()
        labels.append((x, label))
    parts += [text(x, BOTTOM + 14, label, anchor="middle", class_="tick") for x, label in labels]
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 30, "steps per run", anchor="middle", class_="axis"))
    return fragment(parts)


def _mark(x: float, mean: BudgetMean, up: Scale, color: str, metric: str) -> Markup:
    """Return a point with its interval."""
    parts, span = [], ""
    if mean.ci_low is not None and mean.ci_high is not None:
        ends = {"y1": up(mean.ci_low), "y2": up(mean.ci_high)}
        parts.append(element("line", x1=x, x2=x, stroke=color, stroke_width=1.3, **ends))
        span = f" ({number(mean.ci_low, metric)} to {number(mean.ci_high, metric)})"
    title = element("title", f"{mean.loss} after {mean.steps:,} steps: {number(mean.mean, metric)}{span}")
    parts.append(element("circle", title, cx=x, cy=up(mean.mean), r=3.4, fill=color))
    return fragment(parts)


def means_table(axis: BudgetAxis) -> Table:
    """Return the means of each loss (rows) after each budget (columns), and the verdicts in the last row."""
    caption = (
        f"Means over {counted(axis.cases, 'case', 'cases')} with their intervals (bootstrap over folds, cases and "
        "seeds). The last row has the verdict that the results of each budget alone would give."
    )
    table = Table(caption, ("loss", *(f"{steps:,} steps" for steps in axis.steps)))
    for loss in axis.losses:
        table.rows.append([loss_cell(loss), *(_mean_cell(mean, axis.metric) for mean in axis.means_of(loss))])
    verdicts = [text_cell(KIND_LABELS[item.verdict], item.recommended or NO_VALUE) for item in axis.outcomes]
    table.rows.append([text_cell("verdict", "recommended"), *verdicts])
    return table


def _mean_cell(mean: BudgetMean, metric: str) -> Cell:
    span = "" if mean.ci_low is None else f"{number(mean.ci_low, metric)} to {number(mean.ci_high, metric)}"
    return value_cell(mean.mean, number(mean.mean, metric), span)


def courses_table(axis: BudgetAxis) -> Table:
    """Return each pair with its difference at each budget and its course in words."""
    metric = metric_of(axis.metric)
    unit = f", {metric.displayed_unit}" if metric.displayed_unit else ""
    caption = (
        f"First minus second{unit}, paired by case, with intervals; bold: clearly different (Holm). The margin is "
        f"±{metric.factor * axis.margin:g} {metric.displayed_unit}".rstrip()
        + "."
    )
    table = Table(caption, ("first", "second", *(f"{steps:,} steps" for steps in axis.steps), "course"))
    for pair in axis.pairs:
        differences = [_difference_cell(item, metric) for item in pair.differences]
        table.rows.append([loss_cell(pair.a), loss_cell(pair.b), *differences, _course_cell(pair, axis)])
    return table


def _difference_cell(item: BudgetDifference, metric: Metric) -> Cell:
    low, high = (metric.factor * edge for edge in metric.possible_interval(item.ci_low, item.ci_high))
    shown = metric.factor * item.difference
    return value_cell(shown, signed(shown), f"{signed(low)} to {signed(high)}", "best" if item.better else "")


def _course_cell(pair: BudgetPair, axis: BudgetAxis) -> Cell:
    return text_cell(COURSE_WORDS[pair.course], typeset(course_note(pair, axis)))
