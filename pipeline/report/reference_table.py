"""The table of doubtful references."""

from pipeline.references.check import CheckedReferences
from pipeline.report.tables import Table, metric_cell, text_cell

COLUMNS = (
    "case",
    "change that would fit better",
    "Dice with the losses",
    "after the change",
    "between the losses",
)


def references_table(checked: CheckedReferences) -> Table:
    """Return for each doubtful reference the change that fits the predictions better, and the Dice before and after."""
    table = Table("", COLUMNS)
    for item in checked.doubtful:
        suspicion = item.suspicion
        dice = (suspicion.dice, suspicion.dice_changed, suspicion.agreement)
        table.rows.append([*map(text_cell, (item.case, item.words)), *(metric_cell(value, "dice") for value in dice)])
    return table
