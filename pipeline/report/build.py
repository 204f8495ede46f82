"""`report.html`, `verdict.json` and `cases.csv` of a study, from its records alone."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import pipeline
from pipeline.comparison.caveats import MIXED
from pipeline.comparison.evidence import Evidence, read_evidence
from pipeline.comparison.phrases import counted
from pipeline.records.events import TrainEvent, ValidationEvent
from pipeline.records.folder import StudyFolder
from pipeline.records.metrics import metric_of
from pipeline.records.table import write_table
from pipeline.records.verdict import Verdict
from pipeline.report.critical_difference import critical_difference_plot, rank_sentence, unlike_the_verdict
from pipeline.report.curves import class_mean, curve_plot, curves
from pipeline.report.figures import (
    MOST_RANKS,
    distribution_plot,
    interval_plot,
    paired_plot,
    rank_plot,
    seen_from_recommended,
)
from pipeline.report.formatting import duration, typeset
from pipeline.report.loss_tables import losses_table, presence_table
from pipeline.report.operating_point_tables import points_of_losses, points_of_pairs
from pipeline.report.overlays import make_overlays
from pipeline.report.rate_tables import rates_table
from pipeline.report.reference_table import references_table
from pipeline.report.run_tables import compute_table, diagnostics_table, fairness_table, runs_table
from pipeline.report.styles import Styles, styles_of
from pipeline.report.svg import style_sheet
from pipeline.report.tables import (
    Deciders,
    class_tables,
    deciding_cases,
    pairs_table,
    ranks_table,
    size_table,
)
from pipeline.system.files import write_json, write_text

KINDS = {
    "winner": ("A winner", "One loss is better than every other."),
    "equivalent": (
        "Equivalent",
        "The best losses are the same within the margin.",
    ),
    "inconclusive": ("Inconclusive", "This study cannot tell the best losses apart."),
}
NO_VERDICT = ("No verdict", "Each loss was trained once, or has no results.")
"""In place of a kind, where nothing can be recommended whatever the numbers are."""

MAXIMUM_PAIR_PLOTS = 6
SENTENCES_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and what stands above and beneath it."""

    title: str
    svg: Markup
    note: str = ""


def build_report(study: StudyFolder) -> Verdict:
    """Write table, verdict and report of a study, finished or not, and return the verdict.

    Raises
    ------
    RecordError
        Where the folder holds no study, or none of its runs has finished.
    """
    evidence = read_evidence(study)
    write_table(study.cases, evidence.table)
    write_json(study.verdict, evidence.verdict.to_json())
    write_text(study.report, render(evidence))
    return evidence.verdict


def render(evidence: Evidence) -> str:
    """Return the page; every name in it is escaped."""
    styles = styles_of(evidence.losses)
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("pipeline.report") / "templates"
    script = (folder / "report.js").read_text(encoding="utf-8")
    scope = evidence.scope.words
    verdict = evidence.verdict
    words = [sentence for sentence in verdict.words if sentence not in scope]
    judged = bool(verdict.replicated and verdict.recommended)
    kind = KINDS[verdict.verdict] if judged else NO_VERDICT
    caveats = [(caveat, caveat.startswith(MIXED)) for caveat in verdict.caveats]
    fairness, fair = fairness_table(evidence)
    return environment.get_template("report.html.j2").render(
        css=Markup((folder / "report.css").read_text(encoding="utf-8")) + style_sheet(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=pipeline.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        settings=evidence.settings,
        verdict=verdict,
        kind=kind,
        judged=judged,
        headline=typeset(words[0]) if words else kind[1],
        scope=[typeset(sentence) for sentence in scope],
        caveats=sorted(caveats, key=lambda caveat: not caveat[1]),
        sentences=[typeset(sentence) for sentence in words[1:]],
        at_once=SENTENCES_AT_ONCE,
        styles=styles,
        formulas={arm.label: arm.formula for arm in evidence.settings.losses},
        facts=_facts(evidence, fair),
        collapsed_runs=evidence.collapsed,
        open_runs=[run for run in evidence.runs if run.record is None],
        intervals=_intervals(evidence, styles),
        ranks=_ranks(evidence, styles),
        critical_differences=_critical_differences(evidence, styles),
        losses_table=losses_table(evidence, evidence.headline),
        further_metrics=(further := [name for name in evidence.paired if name not in evidence.headline]),
        further_table=losses_table(evidence, further),
        presence_table=presence_table(evidence),
        ranks_table=ranks_table(verdict),
        size_table=size_table(evidence),
        points=(points := verdict.operating_points),
        points_of_losses=points_of_losses(points),
        points_of_pairs=points_of_pairs(points),
        noise_known=_noise(evidence) is not None,
        pairs_table=pairs_table(verdict),
        class_tables=class_tables(evidence),
        primary=evidence.primary,
        metric_name=lambda name: metric_of(name).heading,
        typeset=typeset,
        paired=_paired(evidence, styles),
        distributions=[
            Figure(
                f"{metric_of(name).heading}, {_cases(evidence, name)}", distribution_plot(evidence.paired[name], styles)
            )
            for name in evidence.headline
        ],
        curves=_curves(evidence, styles),
        runs_of={
            loss: sum(run.key.loss == loss and run.state != "collapsed" and bool(run.events) for run in evidence.runs)
            for loss in evidence.losses
        },
        diagnostics=diagnostics_table(evidence),
        rates=rates_table(evidence),
        references=evidence.references,
        references_table=references_table(evidence.references),
        overlays=make_overlays(evidence, styles),
        compute=compute_table(evidence),
        runs=runs_table(evidence),
        fairness=fairness,
        fair=fair,
    )


def _facts(evidence: Evidence, fair: bool | None) -> list[tuple[str, str]]:
    """Return what the first screen says of the study, as label and value."""
    settings = evidence.settings
    dataset = settings.dataset
    seconds = sum(run.record.seconds or 0.0 for run in evidence.runs if run.record is not None)
    noise = _noise(evidence)
    pairing = {True: "proven: equal hashes", False: "BROKEN: hashes differ", None: "one run only"}[fair]
    return [
        ("dataset", f"{dataset.name}, {dataset.cases or evidence.table['case'].nunique()} cases"),
        ("runs", f"{len(evidence.finished)} of {len(evidence.runs)} are in"),
        (
            "design",
            f"{_arms(evidence)} × {counted(settings.folds, 'fold', 'folds')} × "
            f"{counted(len(settings.seeds), 'seed', 'seeds')}",
        ),
        ("fair pairing", pairing),
        (
            "noise between seeds",
            "not measured"
            if noise is None
            else f"{metric_of(evidence.primary).factor * noise:.2f} {metric_of(evidence.primary).displayed_unit}",
        ),
        ("compute", duration(seconds)),
    ]


def _arms(evidence: Evidence) -> str:
    again = sum(arm.control for arm in evidence.settings.losses)
    found = counted(len(evidence.losses) - again, "loss", "losses")
    return f"({found} + {again} control{'s' * (again > 1)})" if again else found


def _noise(evidence: Evidence) -> float | None:
    """Return the standard deviation between seeds of one loss in the primary metric."""
    noise = evidence.verdict.noise_floor.get(evidence.primary)
    return None if noise is None else noise.sd_between_seeds


def _intervals(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    for metric in evidence.headline:
        pairs = seen_from_recommended(evidence.verdict, metric)
        if pairs:
            plot = interval_plot(pairs, metric, styles)
            found.append(Figure(f"{metric_of(metric).heading}, {_cases(evidence, metric)}", plot))
    return found


def _cases(evidence: Evidence, metric: str) -> str:
    return counted(len(evidence.paired[metric].cases), "case", "cases")


def _ranks(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    for metric in evidence.headline:
        ranking = evidence.verdict.ranking.get(metric)
        if ranking and len(ranking.losses) > 1:
            tau, count = ranking.tau, len(ranking.losses)
            shown = f"The first {MOST_RANKS} of {count}. " if count > MOST_RANKS else ""
            note = f"{shown}Darkest: rank 1. Redrawn with the noise of patients and of trainings."
            if tau is not None:
                note += f" Kendall's τ of redrawn rankings with this one: {tau:.2f} (1 is stable)."
            found.append(
                Figure(f"{metric_of(metric).heading}, {_cases(evidence, metric)}", rank_plot(ranking, styles), note)
            )
    return found


def _critical_differences(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    for metric in evidence.headline:
        ranking = evidence.verdict.ranking.get(metric)
        plot = critical_difference_plot(ranking, styles) if ranking else None
        if ranking is not None and plot is not None:
            pairs = evidence.verdict.pairs_of(metric)
            note = rank_sentence(ranking, unlike_the_verdict(ranking, pairs))
            found.append(Figure(metric_of(metric).heading, plot, note))
    return found


def _paired(evidence: Evidence, styles: Styles) -> list[tuple[Figure, Deciders]]:
    """Return the recommended loss against each other, in the primary metric and the first distance."""
    metrics = [evidence.primary, *(name for name in evidence.headline[1:] if name.endswith("_mm"))][:2]
    found = []
    for metric in (name for name in metrics if name in evidence.paired):
        item = evidence.paired[metric]
        first = evidence.verdict.recommended
        if first is None or first not in item.losses:
            continue
        for second in [name for name in item.losses if name != first][:MAXIMUM_PAIR_PLOTS]:
            deciders = deciding_cases(item, first, second)
            title = f"{first} against {second}: {metric_of(metric).heading}"
            plot = paired_plot(item, first, second, deciders.cases, styles)
            found.append((Figure(title, plot, deciders.sentence), deciders))
    return found


def _curves(evidence: Evidence, styles: Styles) -> list[Figure]:
    """Return curves of validation and gradients for all losses together, and of each loss's own training loss."""
    runs = evidence.runs
    validation: list[tuple[str, str, Callable[[ValidationEvent], float | None]]] = [
        ("Validation Dice", "Validation Dice", lambda event: event.mean_dice),
        ("Validation 95 % Hausdorff (mm)", "95 % Hausdorff", class_mean("hausdorff95_mm")),
        ("Validation Hausdorff (mm)", "Hausdorff", class_mean("hausdorff_mm")),
    ]
    plots = [
        (title, curve_plot(curves(runs, ValidationEvent, value), axis, styles), "") for title, axis, value in validation
    ]
    for loss in evidence.losses:
        title, own = f"Training loss of {loss}", [run for run in runs if run.key.loss == loss]
        plot = curve_plot(curves(own, TrainEvent, lambda event: event.loss), title, styles)
        plots.append((title, plot, "Values of different losses cannot be compared with each other."))
    rates = curves(runs, TrainEvent, lambda event: event.learning_rate)
    norms = curves(runs, TrainEvent, lambda event: event.gradient_norm)
    shares = curves(runs, TrainEvent, lambda event: event.logit_gradient_foreground)
    plots += [
        ("Learning rate", curve_plot(rates, "Learning rate", styles), ""),
        (
            "Norm of the gradient",
            curve_plot(norms, "Gradient norm", styles, logarithmic=True),
            "Over all weights, before clipping.",
        ),
        (
            "Share of the gradient on foreground",
            curve_plot(shares, "Share on foreground", styles),
            "Gradient with respect to the logits.",
        ),
    ]
    return [Figure(title, svg, note) for title, svg, note in plots if svg is not None]
