"""The tables of each loss at a threshold of 0.5 and at its own best threshold."""

from pipeline.records.metrics import metric_of
from pipeline.records.operating_points import OperatingPoints, PointDifference, ThresholdRange
from pipeline.report.formatting import signed
from pipeline.report.tables import Cell, Table, count_cell, loss_cell, metric_cell, text_cell, value_cell

POINTS = metric_of("dice").factor
"""Dice points in 1."""


def threshold_table(points: OperatingPoints | None) -> Table:
    """Return for each loss its best thresholds and its mean Dice at 0.5 and at them."""
    table = Table("", ("loss", "best thresholds", "Dice at 0.5", "Dice at best", "gain", "cases"))
    if points is None:
        return table
    for loss in points.losses:
        ranges = [
            f"{name} {_range(chosen)}" if len(loss.thresholds) > 1 else _range(chosen)
            for name, chosen in loss.thresholds.items()
        ]
        table.rows.append(
            [
                loss_cell(loss.name),
                text_cell(", ".join(ranges), "at the limit of the thresholds tried" if loss.at_edge else ""),
                metric_cell(loss.at_half, "dice"),
                metric_cell(loss.at_best, "dice"),
                value_cell(loss.gain, f"{signed(POINTS * loss.gain)} points"),
                count_cell(points.cases),
            ]
        )
    return table


def threshold_pairs_table(points: OperatingPoints | None) -> Table:
    """Return the recommended loss minus each other, at 0.5 and at the best thresholds, and what becomes of it."""
    table = Table("", ("first", "second", "at 0.5", "at best thresholds", "change", "cases", "the difference"))
    if points is None:
        return table
    for pair in points.pairs:
        table.rows.append(
            [
                loss_cell(pair.a),
                loss_cell(pair.b),
                _point_cell(pair.at_half),
                _point_cell(pair.at_best),
                _difference_cell(pair.change, pair.change_ci_low, pair.change_ci_high),
                count_cell(points.cases),
                text_cell(pair.says),
            ]
        )
    return table


def _point_cell(point: PointDifference) -> Cell:
    return _difference_cell(point.difference, point.ci_low, point.ci_high)


def _difference_cell(mean: float, low: float, high: float) -> Cell:
    low, high = metric_of("dice").possible_interval(low, high)
    return value_cell(mean, f"{signed(POINTS * mean)} points", f"{signed(POINTS * low)} to {signed(POINTS * high)}")


def _range(chosen: ThresholdRange) -> str:
    """Return the thresholds of all folds as one number or a range."""
    if chosen.least == chosen.largest:
        return f"{chosen.least:.2f}"
    return f"{chosen.least:.2f} to {chosen.largest:.2f}"
