"""Compare losses: arithmetic, then sentences and caveats."""

from collections.abc import Mapping

import pandas as pd

from pipeline.comparison.analysis import analyze
from pipeline.comparison.budget_axis import BudgetTable
from pipeline.comparison.caveats import caveats_of
from pipeline.comparison.operating_words import with_words
from pipeline.comparison.sentences import sentences
from pipeline.comparison.settings import ComparisonSettings
from pipeline.records.reference_check import ReferenceCheck
from pipeline.records.scope import Scope
from pipeline.records.verdict import Verdict

MAXIMUM_REFERENCES = 5
"""Number of doubtful references that the caveat names."""


def compare(
    table: pd.DataFrame,
    settings: ComparisonSettings | None = None,
    *,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
    scope: Scope | None = None,
    training_seconds: Mapping[str, float] | None = None,
    budgets: BudgetTable | None = None,
) -> Verdict:
    """Compare losses from the long table alone.

    Parameters
    ----------
    table
        Columns loss, case, metric, value; fold, seed, class, patient, state and volume_ml are used if present.
        Distances are in mm and shares in 0..1.
    settings
        Metrics, classes, margins and confidence.
    thresholds
        Dice of each loss at a grid of thresholds (`pipeline.comparison.thresholds`). With them, the verdict
        separates effects of losses from those of thresholds.
    dropped
        Losses that a race has dropped (`pipeline.comparison.racing`), with the reason; they are not compared.
    scope
        Conditions of the trainings, which become part of the verdict.
    training_seconds
        Mean time of a training of each loss. Among equally good losses that are not in the registry, the one with the
        shortest trainings is recommended.
    budgets
        Results of the same runs at smaller budgets. With them, the verdict has a budget axis.

    Raises
    ------
    RecordError
        If the table, the thresholds or the budgets are malformed, or no metric has values on common cases.
    ConfigError
        If the table lacks a metric or class, or the first metric cannot rank losses.

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
    analysis = analyze(table, settings or ComparisonSettings(), thresholds, dropped, training_seconds, budgets)
    verdict = analysis.verdict.model_copy(update={"scope": scope})
    if verdict.operating_points is not None and verdict.recommended is not None:
        points = with_words(verdict.operating_points, verdict.recommended, verdict.controls)
        verdict = verdict.model_copy(update={"operating_points": points})
    verdict = verdict.model_copy(update={"caveats": caveats_of(verdict, analysis.compared, analysis.reversals)})
    return verdict.model_copy(update={"words": sentences(verdict)})


def with_references(verdict: Verdict, check: ReferenceCheck) -> Verdict:
    """Return the verdict with the result of the check of references, and a caveat about the doubtful ones."""
    caveats = list(verdict.caveats)
    if check.doubtful:
        named = [f"{item.case} ({item.words})" for item in check.doubtful[:MAXIMUM_REFERENCES]]
        more = len(check.doubtful) - len(named)
        listed = ", ".join(named) + (f" and {more} more" if more else "")
        caveats.append(
            "Predictions of all losses would agree much better with these references after a change: "
            f"{listed}. Look at them on their images. {check.without}".rstrip()
        )
    return verdict.model_copy(update={"references": check, "caveats": tuple(caveats)})
