"""What a report stands on: the records of a study, read once."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison import compare
from pipeline.comparison.pairing import Paired, complete_losses, pair, usable_rows
from pipeline.comparison.resampling import resampled_means, units_of
from pipeline.comparison.verdict import PRIMARY
from pipeline.errors import RecordError
from pipeline.records.events import read_events
from pipeline.records.folder import RunFolder, RunKey, StudyFolder
from pipeline.records.gather import gather_cases, gather_thresholds
from pipeline.records.scope import RunTrace, Scope, scope_of
from pipeline.records.table import read_table
from pipeline.records.tolerance import default_margin_mm

HEADLINE = ("dice", "hausdorff95_mm", "hausdorff_mm", "assd_mm", "nsd", "lesion_f1")
"""Metrics with plots of their own; all others are in the tables."""


RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """One run of the plan: its record, None while it has not finished, and its events."""

    folder: RunFolder
    record: dict[str, Any] | None
    events: list[dict[str, Any]]

    @property
    def key(self) -> RunKey:
        """Loss, fold and seed."""
        return self.folder.key

    @property
    def state(self) -> str:
        """Return ``ok``, ``collapsed``, ``under way`` or ``not begun``."""
        if self.record is not None:
            return str(self.record.get("state", "ok"))
        return "under way" if self.events else "not begun"

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event for event in self.events if event.get("kind") == kind]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Records of a study and what follows from them.

    `table` holds all rows, `thresholds` Dice at every threshold, `rows` the checked rows; `losses` are in the order of
    the plan; `paired` holds each metric on the cases that the compared losses share; `scope` says under which
    conditions the trainings ran.
    """

    study: StudyFolder
    settings: dict[str, Any]
    table: pd.DataFrame
    thresholds: pd.DataFrame
    rows: pd.DataFrame
    runs: tuple[RunEvidence, ...]
    losses: tuple[str, ...]
    paired: dict[str, Paired]
    scope: Scope
    verdict: dict[str, Any]

    @property
    def finished(self) -> tuple[RunEvidence, ...]:
        """Runs with a record, collapsed ones among them."""
        return tuple(run for run in self.runs if run.record is not None)

    @property
    def primary(self) -> str:
        """The metric that the verdict is about."""
        return str(self.verdict.get("primary") or next(iter(self.paired), "dice"))

    @property
    def headline(self) -> list[str]:
        """Metrics with plots of their own, the primary one first."""
        names = [name for name in HEADLINE if name in self.paired]
        rest = [name for name in names if name != self.primary]
        return [self.primary, *rest] if self.primary in self.paired else rest


def read_evidence(study: StudyFolder) -> Evidence:
    """Read all records and compare the losses.

    Raises
    ------
    RecordError
        Where there is no study, or none of its runs has finished.
    """
    settings = study.read_settings()
    runs = tuple(_read_run(folder) for folder in study.runs())
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
    names, _ = complete_losses(rows[~rows["loss"].isin(list(settings.get("dropped", {})))], collapsed)
    metrics = [str(name) for name in dict.fromkeys(rows["metric"])]
    paired = {name: found for name in metrics if (found := pair(rows, name, names)) is not None}
    planned = [str(entry["label"]) for entry in settings.get("losses", [])]
    losses = tuple(dict.fromkeys([*planned, *table["loss"]]))
    comparable = bool(paired) or not names
    traces = [RunTrace(run.key.loss, run.record, run.events) for run in runs]
    scope = scope_of(settings, traces, next((name for name in PRIMARY if name in paired), PRIMARY[0]))
    verdict = (
        _verdict(with_patients, thresholds, settings, scope) if comparable else _nothing_in_common(collapsed, scope)
    )
    return Evidence(study, settings, table, thresholds, rows, runs, losses, paired, scope, verdict)


def verdict_without(evidence: Evidence, cases: Collection[str]) -> dict[str, Any]:
    """Return the verdict that the study would have without some of its cases."""
    table = _with_patients(evidence.table, evidence.settings)
    kept, thresholds = (rows[~rows["case"].isin(cases)] for rows in (table, evidence.thresholds))
    return _verdict(kept, thresholds, evidence.settings, evidence.scope)


def mean_intervals(paired: Paired) -> NDArray[np.float64]:
    """Return the 95 % interval of each loss's mean, (losses, 2), from the bootstrap over folds, patients and seeds."""
    drawn = resampled_means(paired, units_of(paired), RESAMPLES, seed=0)
    return np.asarray(np.quantile(drawn, [0.025, 0.975], axis=0).T, dtype=np.float64)


def _with_patients(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    patients = {case: entry.get("patient", case) for case, entry in settings.get("cases", {}).items()}
    return table.assign(patient=table["case"].map(patients).fillna(table["case"]))


def _verdict(
    table: pd.DataFrame, thresholds: pd.DataFrame, settings: Mapping[str, Any], scope: Scope
) -> dict[str, Any]:
    spacing = settings.get("plan", {}).get("spacing_mm")
    margins = {"mm": default_margin_mm([spacing])} if spacing else None
    dropped = settings.get("dropped", {})
    return compare(table, thresholds=thresholds, dropped=dropped, margins=margins, scope=scope.to_json()).to_json()


def _read_run(folder: RunFolder) -> RunEvidence:
    record = None
    if folder.record.exists():
        try:
            record = dict(json.loads(folder.record.read_text(encoding="utf-8")))
        except ValueError as error:
            raise RecordError(
                folder.record, f"is not JSON ({error})", "remove it; `segloss study` then repeats the run"
            ) from error
    return RunEvidence(folder, record, read_events(folder.events))


def _nothing_in_common(collapsed: dict[str, int], scope: Scope) -> dict[str, Any]:
    """Return the verdict of a study whose losses share no case yet."""
    return {
        "verdict": "inconclusive",
        "recommended": None,
        "primary": "",
        "losses": [],
        "pairs": [],
        "noise_floor": {},
        "smallest_detectable": {},
        "more_needed": {},
        "ranking": {},
        "collapsed": collapsed,
        "caveats": [],
        "cases": 0,
        "scope": scope.to_json(),
        "words": ["There is nothing to compare yet: no case has results of two losses.", *scope.words],
    }
