"""Loss or threshold: the tables of each loss at 0.5 and at its own best threshold."""

from pipeline.comparison.bounds import possible
from pipeline.records.operating_points import OperatingPoints, ThresholdRange
from pipeline.report.formatting import number, signed
from pipeline.report.tables import Cell, Table, loss_cell, value_cell

POINTS = 100.0


def points_of_losses(points: OperatingPoints | None) -> Table:
    """Return for each loss its thresholds and its mean Dice at 0.5 and at them."""
    table = Table("", ("loss", "best thresholds", "Dice at 0.5", "Dice at best", "gain", "cases"))
    if points is None:
        return table
    for loss in points.losses:
        ranges = [
            f"{name} {_range(chosen)}" if len(loss.thresholds) > 1 else _range(chosen)
            for name, chosen in loss.thresholds.items()
        ]
        below = "at the end of the thresholds tried" if loss.at_edge else ""
        table.rows.append(
            [
                loss_cell(loss.name),
                Cell(", ".join(ranges), ", ".join(ranges), below),
                value_cell(loss.at_half, number(loss.at_half)),
                value_cell(loss.at_best, number(loss.at_best)),
                value_cell(loss.gain, f"{signed(POINTS * loss.gain)} points"),
                value_cell(points.cases, str(points.cases)),
            ]
        )
    return table


def points_of_pairs(points: OperatingPoints | None) -> Table:
    """Return the recommended loss minus each other at 0.5 and at the best thresholds, and what that says."""
    table = Table("", ("first", "second", "at 0.5", "at best thresholds", "change", "cases", "the difference"))
    if points is None:
        return table
    for pair in points.pairs:
        cells = [_difference(point.difference, point.ci_low, point.ci_high) for point in (pair.at_half, pair.at_best)]
        cells.append(_difference(pair.change, pair.change_ci_low, pair.change_ci_high))
        cells.append(value_cell(points.cases, str(points.cases)))
        table.rows.append([loss_cell(pair.a), loss_cell(pair.b), *cells, Cell(pair.says, pair.says)])
    return table


def _difference(mean: float, low: float, high: float) -> Cell:
    low, high = possible("dice", low, high)
    shown = f"{signed(POINTS * mean)} points"
    return value_cell(mean, shown, f"{signed(POINTS * low)} to {signed(POINTS * high)}")


def _range(chosen: ThresholdRange) -> str:
    if chosen.least == chosen.largest:
        return f"{chosen.least:.2f}"
    return f"{chosen.least:.2f} to {chosen.largest:.2f}"
