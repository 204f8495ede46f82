"""Tables of the report as plain rows of cells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.report.formatting import number, percent


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text
        Text that the reader sees.
    sort
        Value by which the column is sorted; empty values come last.
    below
        A second, smaller line.
    loss
        Loss that the cell names; it is shown with its color.
    kind
        CSS classes: ``n`` for numbers, ``warn``, ``best``, ``aside`` and ``code``.
    """

    text: str
    sort: str = ""
    below: str = ""
    loss: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows, with a caption that explains them."""

    caption: str
    columns: tuple[str, ...]
    rows: list[list[Cell]] = field(default_factory=list)


def text_cell(text: str, below: str = "", kind: str = "") -> Cell:
    """Return a text that is sorted by itself.

    Examples
    --------
    >>> text_cell("Anterior")
    Cell(text='Anterior', sort='Anterior', below='', loss='', kind='')
    """
    return Cell(text, text, below, kind=kind)


def loss_cell(loss: str) -> Cell:
    """Return the name of a loss."""
    return Cell(loss, sort=loss, loss=loss)


def value_cell(value: float | None, shown: str | None = None, below: str = "", kind: str = "") -> Cell:
    """Return a number, shown with three decimals unless `shown` is given; an undefined one is sorted last.

    Examples
    --------
    >>> value_cell(0.8765, below="0.85 to 0.90")
    Cell(text='0.876', sort='0.8765', below='0.85 to 0.90', loss='', kind='n ')
    """
    defined = value is not None and math.isfinite(value)
    return Cell((number(value) if shown is None else shown), f"{value:.9g}" if defined else "", below, "", f"n {kind}")


def metric_cell(value: float | None, metric: str) -> Cell:
    """Return a value of a metric with its decimals."""
    return value_cell(value, number(value, metric))


def count_cell(count: int, *, warn: bool = False) -> Cell:
    """Return a count, highlighted if `warn` is set and it is not 0."""
    return value_cell(count, str(count), kind="warn" if warn and count else "")


def failure_cell(share: float | None, below: str = "") -> Cell:
    """Return a share of failures (0 to 1) in percent, highlighted if it is not 0."""
    return value_cell(share, percent(share), below, kind="warn" if share else "")


STATE_COLUMNS = (
    ("missed", "missed", True),
    ("false_positive", "false positive", True),
    ("correct_absence", "correct absence", False),
    ("undefined", "no value", True),
)
"""Counts of `pipeline.metrics.aggregate`: column there, heading, and whether a count deserves attention."""

STATE_HEADINGS = tuple(heading for _, heading, _ in STATE_COLUMNS)


def state_cells(counts: Mapping[str, int]) -> list[Cell]:
    """Return a cell for each of `STATE_COLUMNS`."""
    return [count_cell(int(counts[name]), warn=warn) for name, _, warn in STATE_COLUMNS]
