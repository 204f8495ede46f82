"""Print the means of the losses and the verdict at each budget on a terminal."""

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.comparison.phrases import counted
from pipeline.records.budget_axis import BudgetAxis
from pipeline.records.metrics import metric_of


def budgets_table(axis: BudgetAxis) -> Table:
    """Return one row for each loss and one column for each budget, with the verdicts in the last rows."""
    metric = metric_of(axis.metric)
    title = f"Mean {metric.phrase} after each budget, over {counted(axis.cases, 'case', 'cases')}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("loss", overflow="fold")
    for steps in axis.steps:
        table.add_column(f"{steps:,} steps", justify="right", overflow="fold")
    recommended = axis.outcomes[-1].recommended
    for loss in axis.losses:
        means = (f"{mean.mean:.{metric.decimals}f}" for mean in axis.means_of(loss))
        table.add_row(escape(loss), *means, style="bold" if loss == recommended else None)
    table.add_section()
    table.add_row("verdict", *(item.verdict for item in axis.outcomes))
    table.add_row("recommended", *(escape(item.recommended or "-") for item in axis.outcomes))
    return table
