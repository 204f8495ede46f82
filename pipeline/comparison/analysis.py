"""Compute everything in a verdict but its sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.comparison.arms import Arms, arms_of
from pipeline.comparison.budget_axis import BudgetTable, budget_axis
from pipeline.comparison.controls import gaps_of_controls
from pipeline.comparison.judgement import judge, select_classes
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.loss_results import loss_results
from pipeline.comparison.operating_points import operating_points
from pipeline.comparison.pairing import Paired
from pipeline.comparison.pairs import Comparison, more_needed
from pipeline.comparison.presence import collapse_of, presence
from pipeline.comparison.ranking import pareto, ranking, ranking_over_metrics
from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.strata import (
    Reversal,
    means_by_class,
    means_by_size,
    parts_of,
    reversals,
    reversals_of_plain_means,
    within_parts,
)
from pipeline.comparison.thresholds import with_collapsed_runs
from pipeline.records.operating_points import OperatingPoints
from pipeline.records.states import State
from pipeline.records.verdict import LossResult, PartDifference, Verdict


@dataclass(frozen=True, slots=True)
class Analysis:
    """Verdict without sentences, and the values from which these are written.

    Attributes
    ----------
    verdict
        The verdict, complete except for sentences.
    compared
        Comparison by each metric; empty if no loss has results.
    reversals
        Parts of the data that contradict the whole.
    """

    verdict: Verdict
    compared: Mapping[str, Comparison]
    reversals: Sequence[Reversal] = ()


def analyze(
    table: pd.DataFrame,
    settings: ComparisonSettings,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
    training_seconds: Mapping[str, float] | None = None,
    budgets: BudgetTable | None = None,
) -> Analysis:
    """Compare losses from the long table alone.

    `pipeline.comparison.verdict.compare` describes the arguments and errors.
    """
    rows, collapsed = usable_rows(table)
    rows = select_classes(rows, settings.classes)
    if (rows["state"] == State.COLLAPSED).all():
        return _without_results(dict.fromkeys(collapsed, "all its runs collapsed"), collapsed, settings)
    arms = arms_of(rows, collapsed, dropped or {})
    if not arms.names:
        return _without_results(arms.set_aside, collapsed, settings)
    judgement = judge(rows, arms, collapsed, settings, dropped or {}, training_seconds)
    paired, compared, primary, by_case = judgement.paired, judgement.compared, judgement.primary, judgement.by_case
    main, candidates, choice = compared[primary], judgement.candidates, judgement.choice
    rankings = {
        name: ranking(item.paired, item.units, item.errors, item.pairs, name in by_case)
        for name, item in compared.items()
    }
    parts = parts_of(rows[rows["loss"].isin(arms.names)])
    best = candidates[0]
    inside = [
        difference
        for name, item in paired.items()
        if best in item.losses
        for difference in within_parts(parts, name, arms.names, best, settings)
    ]
    intervals = {name: item.intervals_of_means(settings.resamples, settings.seed) for name, item in compared.items()}
    pairs = tuple(result for item in compared.values() for result in item.pairs)
    verdict = Verdict(
        verdict=judgement.kind,
        recommended=choice.loss,
        primary=primary,
        candidates=candidates,
        losses=tuple(loss_results(compared, intervals, rows, collapsed, arms.set_aside, settings.confidence)),
        pairs=pairs,
        noise_floor={name: item.noise for name, item in compared.items()},
        smallest_detectable={name: item.smallest_detectable() for name, item in compared.items()},
        more_needed=more_needed(judgement.kind, main, candidates),
        ranking=rankings,
        by_class=tuple(means_by_class(rows, list(paired))),
        pareto=tuple(pareto(paired, arms.candidates, by_case)),
        collapsed=collapsed,
        cases=len(main.paired.cases),
        ranking_over_metrics=ranking_over_metrics(rankings),
        by_size=tuple(means_by_size(parts, list(paired))),
        within_parts=tuple(inside),
        set_aside=arms.set_aside,
        confidence=settings.confidence,
        controls=arms.controls,
        aa=tuple(gaps_of_controls(pairs, arms.controls)),
        dropped=arms.dropped,
        operating_points=_operating_points(thresholds, table, rows, arms, choice.loss, settings),
        replicated=main.replicated,
        training_sd=settings.training_sd,
        reason=choice.reason,
        classes=tuple(str(name) for name in dict.fromkeys(rows["class"])),
        left_out={name: item.excluded_count for name, item in paired.items()},
        presence=tuple(presence(rows)),
    )
    if budgets is not None:
        axis = budget_axis(table, budgets, verdict, arms, settings, training_seconds)
        verdict = verdict.model_copy(update={"budgets": axis})
    return Analysis(verdict, compared, _contradictions(rows, paired, inside, best, arms.controls))


def _operating_points(
    thresholds: pd.DataFrame | None,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    arms: Arms,
    recommended: str,
    settings: ComparisonSettings,
) -> OperatingPoints | None:
    """Return the comparison at the best thresholds, on the losses that are compared; None without thresholds."""
    if thresholds is None or thresholds.empty:
        return None
    patients = dict(zip(rows["case"], rows["patient"], strict=True))
    complete = with_collapsed_runs(thresholds, table)
    complete = complete[complete["loss"].astype(str).isin(arms.names)]
    return operating_points(complete, recommended, controls=arms.controls, patients=patients, settings=settings)


def _contradictions(
    rows: pd.DataFrame,
    paired: Mapping[str, Paired],
    inside: Sequence[PartDifference],
    best: str,
    controls: Mapping[str, str],
) -> list[Reversal]:
    """Return the classes, sizes and sets of cases that contradict the whole; controls contradict nothing."""
    contradictions: list[Reversal] = []
    for name, item in paired.items():
        counted = [difference for difference in inside if difference.metric == name and difference.b not in controls]
        means = [mean for loss, mean in zip(item.losses, item.means, strict=True) if loss not in controls]
        best_mean = max(means) if item.higher_is_better else min(means)
        # Only the loss with the best mean in this metric can be contradicted; `best` leads in the deciding metric.
        if best in item.losses and item.means[item.losses.index(best)] == best_mean:
            contradictions += reversals(counted, best)
        contradictions += [
            reversal
            for reversal in reversals_of_plain_means(rows, item)
            if not {reversal.better, reversal.worse} & set(controls)
        ]
    return contradictions


def _without_results(
    set_aside: Mapping[str, str], collapsed: Mapping[str, int], settings: ComparisonSettings
) -> Analysis:
    """Return the analysis of a table in which no run has results."""
    losses = []
    for name in set_aside:
        runs = collapsed.get(name, 0)
        collapse = collapse_of(runs, runs, settings.confidence)
        losses.append(LossResult(name=name, collapsed_runs=runs, collapse=collapse))
    verdict = Verdict(
        verdict="inconclusive",
        recommended=None,
        primary="",
        losses=tuple(losses),
        collapsed=dict(collapsed),
        set_aside=dict(set_aside),
        confidence=settings.confidence,
    )
    return Analysis(verdict, {})
