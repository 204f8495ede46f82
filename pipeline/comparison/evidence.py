"""Read the records of a study, and derive its verdict."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from pipeline.comparison.budget_axis import BudgetTable
from pipeline.comparison.judgement import HEADLINE, PRIMARY
from pipeline.comparison.long_table import comparable_losses, usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.sentences import NOTHING_IN_COMMON
from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.verdict import compare, with_references
from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_budgets, gather_cases, gather_thresholds
from pipeline.records.reference_check import ReferenceCheck
from pipeline.records.run import RunTrace, read_traces
from pipeline.records.scope import Scope, scope_of
from pipeline.records.states import State
from pipeline.records.study import StudyRecord, read_study
from pipeline.records.table import read_table
from pipeline.records.tolerance import default_margin_mm
from pipeline.records.verdict import Verdict
from pipeline.references.check import CheckedReferences, check_references
from pipeline.references.volumes import Volumes

PLOTTED = (*HEADLINE, "lesion_f1")
"""Metrics with plots of their own; the others are only in the tables."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Records of a study, and the results derived from them.

    Attributes
    ----------
    study, settings
        Folder and settings of the study.
    table, rows
        Long table as written, and the checked rows that a comparison uses.
    budgets
        Long table of the smaller budgets as written; empty if there is one budget.
    thresholds
        Dice at every threshold of the probability.
    runs
        All planned runs, finished or not.
    losses
        Losses in the order of the plan.
    paired
        Values of each metric on the cases that the compared losses share.
    scope
        Conditions of the trainings.
    verdict
        Verdict with sentences, caveats and the check of references.
    references
        Result of the check of references.
    volumes
        Reader of the images, references and predictions.
    """

    study: StudyFolder
    settings: StudyRecord
    table: pd.DataFrame
    thresholds: pd.DataFrame
    budgets: pd.DataFrame
    rows: pd.DataFrame
    runs: tuple[RunTrace, ...]
    losses: tuple[str, ...]
    paired: dict[str, Paired]
    scope: Scope
    verdict: Verdict
    references: CheckedReferences
    volumes: Volumes

    @property
    def finished(self) -> tuple[RunTrace, ...]:
        """Runs with a record, including collapsed ones."""
        return tuple(run for run in self.runs if run.record is not None)

    @property
    def collapsed(self) -> tuple[RunTrace, ...]:
        """Runs that gave no usable network."""
        return tuple(run for run in self.runs if run.state == State.COLLAPSED)

    @property
    def primary(self) -> str:
        """Metric that decides."""
        return self.verdict.primary or next(iter(self.paired), "dice")

    @property
    def headline(self) -> list[str]:
        """Metrics with plots of their own, the deciding one first."""
        names = [name for name in PLOTTED if name in self.paired]
        rest = [name for name in names if name != self.primary]
        return [self.primary, *rest] if self.primary in self.paired else rest


def read_evidence(study: StudyFolder, comparison: ComparisonSettings | None = None) -> Evidence:
    """Read all records, compare the losses and check the references.

    If at most half of the cases have doubtful references, the comparison is repeated without them, and the verdict
    states whether it changes.

    Parameters
    ----------
    study
        Folder of the study.
    comparison
        Metrics, classes, margins and confidence; by default those that the study records. Without a record, all, with
        the margin of distances by the resolution.

    Raises
    ------
    RecordError
        If the folder is not a study, none of its runs has finished, or a record is malformed.
    """
    settings = read_study(study)
    runs = read_traces(study)
    table = gather_cases(study)
    if table.empty and study.cases.exists():
        table = read_table(study.cases)
    if table.empty:
        raise RecordError(
            study.root, f"none of its {len(runs)} runs has finished", "run its `segloss study` command again"
        )
    with_patients = _with_patients(table, settings)
    rows, collapsed = usable_rows(with_patients)
    thresholds = gather_thresholds(study)
    smaller, steps = gather_budgets(study), settings.budget.steps
    if smaller.empty and study.budgets.exists():
        smaller = read_table(study.budgets)
    names, _ = comparable_losses(rows[~rows["loss"].isin(list(settings.dropped))], collapsed)
    metrics = [str(name) for name in dict.fromkeys(rows["metric"])]
    paired = {name: item for name in metrics if (item := pair(rows, name, names)) is not None}
    scope = scope_of(settings, runs, next((name for name in PRIMARY if name in paired), PRIMARY[0]))
    volumes = Volumes(settings, runs)
    seconds = _training_seconds(runs) if settings.is_imported else None  # of losses the simplest is recommended

    def judge(left_out: Collection[str] = ()) -> Verdict:
        tables = (with_patients, thresholds, smaller)
        results, levels, at_smaller = (every[~every["case"].isin(list(left_out))] for every in tables)
        return compare(
            results,
            comparison or _default_comparison(settings),
            thresholds=levels,
            dropped=settings.dropped,
            scope=scope,
            training_seconds=seconds,
            budgets=None if steps is None or at_smaller.empty else BudgetTable(at_smaller, steps),
        )

    checked = CheckedReferences()
    if paired or not names:
        verdict = judge()
        checked = _checked(paired.get("dice"), verdict, settings, volumes)
        outcome = checked.outcome
        doubtful = [item.case for item in checked.doubtful]
        if doubtful and len(doubtful) <= len(paired["dice"].cases) // 2:  # references are checked by Dice
            outcome = outcome.model_copy(update={"without": _what_changes(verdict, judge(doubtful))})
        verdict = with_references(verdict, outcome)
        verdict = verdict.model_copy(update={"caveats": (*verdict.caveats, *settings.notes)})
    else:
        verdict = _nothing_in_common(collapsed, scope)
    losses = tuple(dict.fromkeys([*settings.labels, *table["loss"]]))
    return Evidence(
        study, settings, table, thresholds, smaller, rows, runs, losses, paired, scope, verdict, checked, volumes
    )  # fmt: skip


def _checked(dice: Paired | None, verdict: Verdict, settings: StudyRecord, volumes: Volumes) -> CheckedReferences:
    """Check the references, those with the lowest Dice first; a single loss cannot contradict a reference."""
    if dice is None or len(dice.losses) < 2:
        return CheckedReferences()
    order = dice.values.mean(axis=0).argsort(kind="stable")
    cases = [dice.cases[int(index)] for index in order]
    return check_references(cases, dice.best_first(verdict.recommended), volumes, settings.dataset.classes)


def _what_changes(verdict: Verdict, without: Verdict) -> str:
    """Return the sentence about the verdict without the doubtful references."""
    if (without.verdict, without.recommended) == (verdict.verdict, verdict.recommended):
        return "Without them the verdict is the same."
    return f"Without them: {without.words[0]}"


def _with_patients(table: pd.DataFrame, settings: StudyRecord) -> pd.DataFrame:
    return table.assign(patient=table["case"].map(settings.patients).fillna(table["case"]))


def _default_comparison(settings: StudyRecord) -> ComparisonSettings:
    if settings.comparison is not None:
        return ComparisonSettings.from_options(settings.comparison)
    spacing = settings.plan.spacing_mm
    return ComparisonSettings(margins={"mm": default_margin_mm([spacing])} if spacing else {})


def _training_seconds(runs: Sequence[RunTrace]) -> dict[str, float]:
    """Return the mean time of a training of each loss, for losses whose runs all recorded it."""
    times: dict[str, list[float | None]] = {}
    for run in runs:
        if run.record is not None:
            times.setdefault(run.key.loss, []).append(run.record.training_seconds)
    known = {loss: [time for time in each if time is not None] for loss, each in times.items()}
    return {loss: fmean(known[loss]) for loss, each in times.items() if len(known[loss]) == len(each)}


def _nothing_in_common(collapsed: dict[str, int], scope: Scope) -> Verdict:
    """Return the verdict of a study whose losses share no case yet."""
    return Verdict(
        verdict="inconclusive",
        recommended=None,
        primary="",
        collapsed=collapsed,
        scope=scope,
        references=ReferenceCheck(),
        words=(NOTHING_IN_COMMON, *scope.words),
    )
