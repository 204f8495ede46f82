"""`report.html`, `verdict.json`, `cases.csv` and `budgets.csv` of a study, from its records alone."""

from collections import Counter
from dataclasses import dataclass

from pipeline.comparison.evidence import Evidence, read_evidence
from pipeline.comparison.settings import ComparisonSettings
from pipeline.records.folder import StudyFolder
from pipeline.records.states import State
from pipeline.records.table import write_table
from pipeline.records.verdict import Verdict
from pipeline.report.budget_section import budget_section
from pipeline.report.figure_sections import make_figures
from pipeline.report.formatting import typeset
from pipeline.report.loss_tables import losses_table, presence_table
from pipeline.report.metric_tables import ClassTable, class_tables, ranks_table, size_table
from pipeline.report.overlays import make_overlays
from pipeline.report.page import render_page
from pipeline.report.pair_tables import pairs_table
from pipeline.report.rate_tables import rates_table
from pipeline.report.reference_table import references_table
from pipeline.report.run_tables import check_pairing, compute_table, diagnostics_table, runs_table
from pipeline.report.styles import styles_of
from pipeline.report.summary import SHOWN_CAVEATS, SHOWN_SENTENCES, summarize_verdict
from pipeline.report.tables import Table
from pipeline.report.threshold_tables import threshold_pairs_table, threshold_table
from pipeline.system.files import write_json, write_text


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of a page; `further_losses` has the metrics without plots of their own."""

    losses: Table
    further_losses: Table | None
    presence: Table
    ranks: Table
    sizes: Table
    pairs: Table
    classes: list[ClassTable]
    thresholds: Table
    threshold_pairs: Table
    diagnostics: Table
    rates: Table
    references: Table
    compute: Table
    runs: Table


def build_report(study: StudyFolder, comparison: ComparisonSettings | None = None) -> Verdict:
    """Write table, verdict and report of a study, finished or not, and return the verdict.

    Parameters
    ----------
    study
        Folder of the study.
    comparison
        Metrics, classes, margins and confidence, if not those that the study records, or the defaults.

    Raises
    ------
    RecordError
        If the folder holds no study, or none of its runs has finished.
    """
    evidence = read_evidence(study, comparison)
    write_table(study.cases, evidence.table)
    if not evidence.budgets.empty:
        write_table(study.budgets, evidence.budgets)
    write_json(study.verdict, evidence.verdict.to_json())
    write_text(study.report, render(evidence))
    return evidence.verdict


def render(evidence: Evidence) -> str:
    """Return the page; every name in it is escaped."""
    styles = styles_of(evidence.losses)
    pairing = check_pairing(evidence)
    return render_page(
        "report.html.j2",
        evidence=evidence,
        summary=summarize_verdict(evidence, pairing.equal),
        tables=_tables(evidence),
        figures=make_figures(evidence, styles),
        budgets=budget_section(evidence, styles),
        overlays=make_overlays(evidence, styles),
        pairing=pairing,
        styles=styles,
        formulas={arm.label: arm.formula for arm in evidence.settings.losses},
        runs_with_curves=_runs_with_curves(evidence),
        shown_sentences=SHOWN_SENTENCES,
        shown_caveats=SHOWN_CAVEATS,
        typeset=typeset,
    )


def _tables(evidence: Evidence) -> Tables:
    verdict = evidence.verdict
    further = [name for name in evidence.paired if name not in evidence.headline]
    return Tables(
        losses=losses_table(evidence, evidence.headline),
        further_losses=losses_table(evidence, further) if further else None,
        presence=presence_table(evidence),
        ranks=ranks_table(verdict),
        sizes=size_table(evidence),
        pairs=pairs_table(verdict),
        classes=class_tables(evidence),
        thresholds=threshold_table(verdict.operating_points),
        threshold_pairs=threshold_pairs_table(verdict.operating_points),
        diagnostics=diagnostics_table(evidence),
        rates=rates_table(evidence),
        references=references_table(evidence.references),
        compute=compute_table(evidence),
        runs=runs_table(evidence),
    )


def _runs_with_curves(evidence: Evidence) -> Counter[str]:
    """Return for each loss how many runs are averaged in its curves."""
    return Counter(run.key.loss for run in evidence.runs if run.events and run.state != State.COLLAPSED)
