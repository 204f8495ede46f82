"""Loss or threshold: the tables of each loss at 0.5 and at its own best threshold."""

from collections.abc import Mapping
from typing import Any

from pipeline.comparison.bounds import possible
from pipeline.report.tables import Cell, Table, loss_cell, value_cell
from pipeline.report.wording import number, signed

POINTS = 100.0


def points_of_losses(found: Mapping[str, Any]) -> Table:
    """Return for each loss its thresholds and its mean Dice at 0.5 and at them."""
    table = Table("", ("loss", "best thresholds", "Dice at 0.5", "Dice at best", "gain", "cases"))
    for entry in found.get("losses", []):
        ranges = [
            f"{name} {_range(item['least'], item['largest'])}" if len(entry["thresholds"]) > 1 else
            _range(item["least"], item["largest"])
            for name, item in entry["thresholds"].items()
        ]  # fmt: skip
        below = "at the end of what was tried" if entry["at_edge"] else ""
        table.rows.append(
            [
                loss_cell(entry["name"]),
                Cell(", ".join(ranges), ", ".join(ranges), below),
                value_cell(entry["at_half"], number(entry["at_half"])),
                value_cell(entry["at_best"], number(entry["at_best"])),
                value_cell(entry["gain"], f"{signed(POINTS * entry['gain'])} points"),
                value_cell(found.get("cases"), str(found.get("cases", "–"))),
            ]
        )
    return table


def points_of_pairs(found: Mapping[str, Any]) -> Table:
    """Return the recommended loss minus each other at 0.5 and at the best thresholds, and what that says."""
    table = Table("", ("first", "second", "at 0.5", "at best thresholds", "change", "cases", "the difference"))
    for entry in found.get("pairs", []):
        cells = [_difference(entry[point]) for point in ("at_half", "at_best")]
        change = {
            "difference": entry["change"], "ci_low": entry["change_ci_low"], "ci_high": entry["change_ci_high"]
        }  # fmt: skip
        cells.append(_difference(change))
        cells.append(value_cell(found.get("cases"), str(found.get("cases", "–"))))
        table.rows.append([loss_cell(entry["a"]), loss_cell(entry["b"]), *cells, Cell(entry["says"], entry["says"])])
    return table


def _difference(entry: Mapping[str, Any]) -> Cell:
    low, high = possible("dice", entry["ci_low"], entry["ci_high"])
    shown = f"{signed(POINTS * entry['difference'])} points"
    return value_cell(entry["difference"], shown, f"{signed(POINTS * low)} to {signed(POINTS * high)}")


def _range(least: float, largest: float) -> str:
    return f"{least:.2f}" if least == largest else f"{least:.2f} to {largest:.2f}"
