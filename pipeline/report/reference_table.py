"""The table of doubtful references."""

from pipeline.references.check import CheckedReferences
from pipeline.report.tables import Cell, Table, value_cell


def references_table(checked: CheckedReferences) -> Table:
    """Return the change that would make each doubtful reference suit the predictions, and by how much."""
    table = Table("", ("case", "would suit better", "Dice with the losses", "then", "between the losses"))
    for item in checked.doubtful:
        numbers = (item.suspicion.dice, item.suspicion.dice_changed, item.suspicion.agreement)
        names = [Cell(text, text) for text in (item.case, item.words)]
        table.rows.append([*names, *map(value_cell, numbers)])
    return table
