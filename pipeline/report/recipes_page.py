"""The page of a folder of studies: the combined verdict, losses over recipes, and their interactions."""

from markupsafe import Markup

from pipeline.comparison.phrases import counted
from pipeline.comparison.recipe_words import CONCLUSIONS, possible_double_interval
from pipeline.records.metrics import Metric, metric_of
from pipeline.records.recipes import Interaction, RecipeDifference, RecipeMean, RecipesRecord, RecipesVerdict, Regret
from pipeline.report.formatting import NO_VALUE, number, p_value, shortened, signed, typeset
from pipeline.report.page import render_page
from pipeline.report.styles import Styles, styles_of
from pipeline.report.svg import WIDTH, Scale, chart, element, fragment, text, y_axis
from pipeline.report.tables import Cell, Table, loss_cell, text_cell, value_cell

LEFT, TOP, BOTTOM = 46.0, 12.0, 232.0

OFFSET = 7.0
"""Distance between the marks of two losses under one recipe, so that their intervals do not hide each other."""

MAXIMUM_PANELS = 3
"""Metrics with a figure of their own; the tables have all."""

KINDS = {"holds": "winner", "differs": "equivalent", "cannot_tell": "inconclusive"}
"""Color of the label of each combined verdict, by the kind of verdict that has it on the page of a study."""

LABELS = {"holds": "Holds", "differs": "Depends on the recipe", "cannot_tell": "Cannot tell"}

SHORT_CHANGES = {
    "order": "each is better once",
    "order uncertain": "sign changes, not clear under both",
    "size": "same sign, other size",
}
"""Words for the kinds of a clear interaction in a narrow cell."""


def recipes_page(verdict: RecipesVerdict, record: RecipesRecord) -> str:
    """Return the page; every name in it is escaped."""
    styles = styles_of(verdict.losses)
    return render_page(
        "recipes.html.j2",
        verdict=verdict,
        record=record,
        kind=KINDS[verdict.verdict],
        label=LABELS[verdict.verdict],
        styles=styles,
        facts=_facts(verdict, record),
        studies=studies_table(verdict),
        panels=[
            (metric_of(metric).heading, recipe_panel(verdict, metric, styles))
            for metric in verdict.metrics[:MAXIMUM_PANELS]
        ],
        means=[(metric_of(metric).heading, means_table(verdict, metric)) for metric in verdict.metrics],
        pairs=interactions_table(verdict),
        regrets=regrets_table(verdict),
        typeset=typeset,
    )


def _facts(verdict: RecipesVerdict, record: RecipesRecord) -> list[tuple[str, str]]:
    detectable = verdict.smallest_detectable.get(verdict.primary)
    metric = metric_of(verdict.primary)
    shown = "" if detectable is None else f"{metric.factor * detectable:.2f} {metric.displayed_unit} of {metric.phrase}"
    return [
        ("recipes", str(len(record.recipes))),
        ("losses", str(len(verdict.losses))),
        ("shared cases", str(verdict.cases)),
        ("folds", str(record.request.folds)),
        ("budget per run", record.request.budget or "default of the trainer"),
        ("interaction found with 80 % probability", shown or NO_VALUE),
    ]


def recipe_panel(verdict: RecipesVerdict, metric: str, styles: Styles) -> Markup:
    """Return the mean of each loss with its interval under each recipe; lines connect one loss."""
    names = verdict.names
    shown = [mean for mean in verdict.means if mean.metric == metric and mean.loss in styles]
    bounds = [bound for mean in shown for bound in (mean.ci_low, mean.ci_high, mean.mean) if bound is not None]
    up = Scale.around(bounds, BOTTOM, TOP)
    step = (WIDTH - 12 - LEFT) / max(len(names), 1)
    places = {name: LEFT + step * (index + 0.5) for index, name in enumerate(names)}
    parts = [y_axis(up, LEFT, WIDTH - 12)]
    letters = max(4, int(step / 6.6))
    for name, x in places.items():
        parts.append(text(x, BOTTOM + 18, shortened(name, letters), anchor="middle", class_="name"))
    for index, loss in enumerate(styles):
        shift = OFFSET * (index - (len(styles) - 1) / 2)
        own = [(places[name] + shift, mean) for name in names if (mean := verdict.mean_of(metric, name, loss))]
        style = styles[loss]
        path = " ".join(f"{x:.1f},{up(mean.mean):.1f}" for x, mean in own)
        parts.append(
            element("polyline", points=path, stroke=style.color, stroke_dasharray=style.dash, class_="sweep-line")
        )
        parts += [_mark(x, mean, up, style.color) for x, mean in own]
    label = f"{metric_of(metric).heading} of each loss under each recipe"
    return chart(WIDTH, BOTTOM + 28, label, fragment(parts))


def _mark(x: float, mean: RecipeMean, up: Scale, color: str) -> Markup:
    """Return a point with its interval; the best loss of a recipe has a larger point."""
    parts = []
    span = ""
    if mean.ci_low is not None and mean.ci_high is not None:
        y1, y2 = up(mean.ci_low), up(mean.ci_high)
        parts.append(element("line", x1=x, x2=x, y1=y1, y2=y2, stroke=color, stroke_width=1.3))
        span = f" ({number(mean.ci_low, mean.metric)} to {number(mean.ci_high, mean.metric)})"
    title = f"{mean.loss} under {mean.recipe}: {number(mean.mean, mean.metric)}{span}"
    radius = 5.0 if mean.best else 3.2
    parts.append(element("circle", element("title", title), cx=x, cy=up(mean.mean), r=radius, fill=color))
    return fragment(parts)


def means_table(verdict: RecipesVerdict, metric: str) -> Table:
    """Return the means of each loss (rows) under each recipe (columns), the best of each recipe marked."""
    caption = (
        f"Means over {counted(verdict.cases, 'case', 'cases')} with 95 % intervals (bootstrap over folds, cases and "
        "seeds). Bold: the best mean of a recipe."
    )
    table = Table(caption, ("loss", *verdict.names))
    for loss in verdict.losses:
        row = [loss_cell(loss)]
        for recipe in verdict.names:
            mean = verdict.mean_of(metric, recipe, loss)
            if mean is None:
                row.append(value_cell(None, "not compared"))
                continue
            span = "" if mean.ci_low is None else f"{number(mean.ci_low, metric)} to {number(mean.ci_high, metric)}"
            row.append(value_cell(mean.mean, number(mean.mean, metric), span, "best" if mean.best else ""))
        table.rows.append(row)
    return table


def studies_table(verdict: RecipesVerdict) -> list[tuple[str, str, str, str]]:
    """Return recipe, verdict, recommended loss and first sentence of each study."""
    return [
        (outcome.recipe, outcome.verdict, outcome.recommended or NO_VALUE, typeset(outcome.headline))
        for outcome in verdict.recipes
    ]


def interactions_table(verdict: RecipesVerdict) -> Table:
    """Return every pair of losses and of recipes in every metric, the deciding metric first."""
    caption = (
        "First minus second under each recipe, and the change of that difference from the second recipe of the pair to "
        "the first, paired by case, fold and seed. p is corrected for all pairs of losses and recipes of a metric "
        "(Holm). holds: the same loss is clearly better under both recipes, or both losses are equivalent under both; "
        "differs: the change is clear and not within the margin."
    )
    columns = (
        "metric",
        "first",
        "second",
        "recipes",
        "under the first",
        "under the second",
        "change",
        "p (corrected)",
        "conclusion",
    )
    pairs = [pair for metric in verdict.metrics for pair in verdict.pairs_of(metric)]
    return Table(caption, columns, [_interaction_row(pair) for pair in pairs])


def _interaction_row(pair: Interaction) -> list[Cell]:
    metric = metric_of(pair.metric)
    return [
        Cell(metric.heading, pair.metric),
        loss_cell(pair.a),
        loss_cell(pair.b),
        text_cell(f"{pair.first.recipe}, {pair.second.recipe}"),
        _difference_cell(pair.first, metric),
        _difference_cell(pair.second, metric),
        _span_cell(pair.difference, possible_double_interval(pair), metric),
        value_cell(pair.p_holm, p_value(pair.p_holm if pair.replicated else None)),
        text_cell(CONCLUSIONS[pair.verdict], interaction_note(pair), "best" if pair.verdict == "differs" else ""),
    ]


def _difference_cell(one: RecipeDifference, metric: Metric) -> Cell:
    return _span_cell(one.difference, metric.possible_interval(one.ci_low, one.ci_high), metric)


def _span_cell(value: float, bounds: tuple[float, float], metric: Metric) -> Cell:
    low, high = (signed(metric.factor * bound) for bound in bounds)
    shown = f"{signed(metric.factor * value)} {metric.displayed_unit}".rstrip()
    return value_cell(metric.factor * value, shown, f"{low} to {high}")


def interaction_note(pair: Interaction) -> str:
    """Return the reason of a conclusion, or what would be needed for one, in a few words."""
    metric = metric_of(pair.metric)
    if pair.verdict == "differs":
        return SHORT_CHANGES[pair.change or "size"]
    if pair.verdict == "holds":
        better = pair.first.better if pair.first.better == pair.second.better else None
        return f"{better} is better under both" if better else "equivalent under both"
    if not pair.replicated:
        return "trained once: no verdict"
    parts = []
    if pair.equivalent:
        parts.append("the change is within the margin")
    elif pair.detectable is not None:
        parts.append(f"would find {metric.factor * pair.detectable:.2f} {metric.displayed_unit}".rstrip())
    needed = pair.more_needed
    if needed is not None:
        ways = [f"{needed.cases:,} cases"] if needed.cases else []
        ways += [f"{needed.seeds:,} seeds"] if needed.seeds else []
        joint = " and " if needed.together else " or "
        parts.append(f"needs {joint.join(ways)}" if ways else "more than ten times the study needed")
    return "; ".join(parts)


def regrets_table(verdict: RecipesVerdict) -> Table:
    """Return the cost of using the recommendation of each recipe under the others."""
    metric = metric_of(verdict.primary)
    caption = (
        f"Mean loss of {metric.phrase} in {metric.displayed_unit or 'units'} if the loss recommended under one recipe "
        "is used under another, against the loss recommended there; positive is worse."
    )
    columns = ("recommended under", "loss", "used under", "recommended there", "regret", "conclusion")
    return Table(caption, columns, [_regret_row(item, metric) for item in verdict.regrets])


def _regret_row(item: Regret, metric: Metric) -> list[Cell]:
    if item.loss == item.recommended:
        conclusion = "same loss"
    elif item.within_margin:
        conclusion = "within the margin"
    else:
        conclusion = "clearly worse" if item.clear else "not clear"
    return [
        text_cell(item.chosen_under),
        loss_cell(item.loss),
        text_cell(item.used_under),
        loss_cell(item.recommended),
        _span_cell(item.regret, metric.possible_interval(item.ci_low, item.ci_high), metric)
        if item.loss != item.recommended
        else value_cell(0.0, "0"),
        text_cell(conclusion, kind="warn" if conclusion == "clearly worse" else ""),
    ]
