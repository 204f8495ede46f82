"""The verdict: a winner, a set of equivalent losses, or that the data cannot tell, and what would."""

from collections.abc import Mapping

import pandas as pd

from pipeline.comparison.analysis import analyze
from pipeline.comparison.caveats import caveats_of
from pipeline.comparison.operating_words import with_words
from pipeline.comparison.sentences import sentences
from pipeline.comparison.settings import ComparisonSettings
from pipeline.records.reference_check import ReferenceCheck
from pipeline.records.scope import Scope
from pipeline.records.verdict import Verdict

NAMED = 5
"""Doubtful references that the caveat names."""


def compare(
    table: pd.DataFrame,
    settings: ComparisonSettings | None = None,
    *,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
    scope: Scope | None = None,
) -> Verdict:
    """Compare losses from the long table alone.

    Parameters
    ----------
    table
        Columns loss, case, metric, value; fold, seed, class, patient, state and volume_ml are used where present.
    settings
        What to compare, and how strictly.
    thresholds
        Dice of each loss at a grid of thresholds (`pipeline.comparison.operating_points`): is it the loss or the
        threshold?
    dropped
        Losses that a race has dropped (`pipeline.comparison.racing`), with the reason; they take no part.
    scope
        Conditions under which the trainings ran; part of the verdict.

    Raises
    ------
    RecordError
        If the table is malformed, or no metric has values of two losses on common cases.
    ConfigError
        For a metric or class that the table lacks.

    Examples
    --------
    >>> dice = {"ce": 0.80, "dice_ce": 0.84}
    >>> rows = [
    ...     {"loss": loss, "fold": case % 5, "case": f"case{case}", "metric": "dice", "value": mean + 0.01 * (case % 7)}
    ...     for loss, mean in dice.items()
    ...     for case in range(40)
    ... ]
    >>> verdict = compare(pd.DataFrame(rows))
    >>> verdict.verdict, verdict.recommended
    ('winner', 'dice_ce')
    """
    analysis = analyze(table, settings or ComparisonSettings(), thresholds, dropped)
    verdict = analysis.verdict.model_copy(update={"scope": scope})
    if verdict.operating_points is not None and verdict.recommended is not None:
        points = with_words(verdict.operating_points, verdict.recommended, verdict.controls)
        verdict = verdict.model_copy(update={"operating_points": points})
    verdict = verdict.model_copy(update={"caveats": caveats_of(verdict, analysis.compared, analysis.reversals)})
    return verdict.model_copy(update={"words": sentences(verdict)})


def with_references(verdict: Verdict, check: ReferenceCheck) -> Verdict:
    """Return the verdict with the outcome of the check of references, and a caveat about the doubtful ones."""
    caveats = list(verdict.caveats)
    if check.doubtful:
        named = [f"{item.case} ({item.words})" for item in check.doubtful[:NAMED]]
        more = len(check.doubtful) - len(named)
        caveats.append(
            f"Predictions of all losses would suit these references much better after a change: {', '.join(named)}"
            f"{f' and {more} more' if more else ''}. Look at them beside their images. {check.without}".rstrip()
        )
    return verdict.model_copy(update={"references": check, "caveats": tuple(caveats)})
