"""The table of the search over learning rates: candidates of each loss, their scores, and the choice."""

from collections.abc import Sequence

import numpy as np

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.phrases import counted
from pipeline.records.rate_search import RateSearch
from pipeline.report.formatting import NO_VALUE
from pipeline.report.tables import Cell, Table, loss_cell, text_cell, value_cell

COLUMNS = ("loss", "learning rate", "score", "chance", "steps of the trials", "chosen", "note")


def rates_table(evidence: Evidence) -> Table:
    """Return one row for each loss and candidate; no rows if rates were given or no search was recorded."""
    table = Table("Means over the runs of a loss, of the longest trials of each run.", COLUMNS)
    for loss in evidence.losses:
        recorded = [run.record.rate_search for run in evidence.runs if run.record is not None and run.key.loss == loss]
        searches = [search for search in recorded if search is not None and search.rule != "given"]
        rates = {trial.learning_rate for search in searches for trial in search.trials}
        rates |= {search.chosen for search in searches}
        table.rows.extend(_row(loss, rate, searches) for rate in sorted(rates))
    return table


def _row(loss: str, rate: float, searches: Sequence[RateSearch]) -> list[Cell]:
    trials = [trial for search in searches for trial in search.last_round if trial.learning_rate == rate]
    scores = [trial.score for trial in trials if trial.score is not None]
    chances = [search.chance for search in searches if search.chance is not None]
    steps = ", ".join(map(str, sorted({trial.steps for trial in trials}))) or NO_VALUE
    chosen = sum(search.chosen == rate for search in searches)
    notes = _notes(rate, searches)
    if len(scores) < len(trials):
        notes.append(f"not finite in {counted(len(trials) - len(scores), 'run', 'runs')}")
    return [
        loss_cell(loss),
        value_cell(rate, f"{rate:g}"),
        _score_cell(scores, _range(scores)),
        _score_cell(chances),
        text_cell(steps),
        value_cell(chosen, f"{chosen} of {len(searches)}"),
        Cell("; ".join(notes) or NO_VALUE, kind="warn" if notes else ""),
    ]


def _score_cell(scores: Sequence[float], below: str = "") -> Cell:
    mean = float(np.mean(scores)) if scores else None
    return value_cell(mean, NO_VALUE if mean is None else f"{mean:.4f}", below)


def _range(scores: Sequence[float]) -> str:
    return f"{min(scores):.4f} to {max(scores):.4f}" if len(scores) > 1 else ""


def _notes(rate: float, searches: Sequence[RateSearch]) -> list[str]:
    own = [search for search in searches if search.chosen == rate]
    fallbacks = sum(search.rule == "fallback" for search in own)
    notes = [f"fallback in {counted(fallbacks, 'run', 'runs')}"] if fallbacks else []
    if any(search.at_edge for search in own):
        notes.append("at the edge of the candidates")
    return notes
