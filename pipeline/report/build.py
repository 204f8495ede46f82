"""`report.html`, `verdict.json` and `cases.csv` of a study, from its records alone."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import pipeline
from pipeline.comparison.words import MIXED, counted
from pipeline.records.folder import StudyFolder
from pipeline.records.metrics import metric_of
from pipeline.records.table import write_table
from pipeline.references.check import CheckedReferences, check_references
from pipeline.references.volumes import Volumes
from pipeline.report.critical_difference import critical_difference_plot, rank_sentence, unlike_the_verdict
from pipeline.report.curves import class_mean, curve_plot, curves, field
from pipeline.report.evidence import Evidence, read_evidence
from pipeline.report.figures import (
    MOST_RANKS,
    Styles,
    distribution_plot,
    interval_plot,
    paired_plot,
    rank_plot,
    seen_from,
)
from pipeline.report.loss_tables import losses_table, presence_table
from pipeline.report.operating_point_tables import points_of_losses, points_of_pairs
from pipeline.report.overlays import make_overlays
from pipeline.report.rate_tables import rates_table
from pipeline.report.run_tables import compute_table, diagnostics_table, fairness_table, runs_table
from pipeline.report.tables import (
    Deciders,
    class_tables,
    deciding_cases,
    pairs_table,
    ranks_table,
    size_table,
)
from pipeline.report.wording import LossStyle, duration, factor, metric_name, typeset, unit
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


def build_report(study: StudyFolder) -> dict[str, Any]:
    """Write table, verdict and report of a study, finished or not, and return the verdict.

    Raises
    ------
    RecordError
        Where the folder holds no study, or none of its runs has finished.
    """
    evidence = read_evidence(study)
    volumes = Volumes(evidence)
    checked = check_references(evidence, volumes)
    evidence.verdict["references"] = checked.to_json()
    evidence.verdict["caveats"] += checked.caveats
    write_table(study.cases, evidence.table)
    write_json(study.verdict, evidence.verdict)
    write_text(study.report, render(evidence, volumes, checked))
    return evidence.verdict


def render(evidence: Evidence, volumes: Volumes, checked: CheckedReferences) -> str:
    """Return the page; every name in it is escaped."""
    styles = {name: LossStyle(index) for index, name in enumerate(evidence.losses)}
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
    words = [str(sentence) for sentence in evidence.verdict.get("words", []) if sentence not in scope]
    judged = bool(evidence.verdict.get("replicated", True) and evidence.verdict["recommended"])
    kind = KINDS[evidence.verdict["verdict"]] if judged else NO_VERDICT
    caveats = [(str(said), str(said).startswith(MIXED)) for said in evidence.verdict.get("caveats", [])]
    fairness, fair = fairness_table(evidence)
    return environment.get_template("report.html.j2").render(
        css=Markup((folder / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=pipeline.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        settings=evidence.settings,
        verdict=evidence.verdict,
        kind=kind,
        judged=judged,
        headline=typeset(words[0]) if words else kind[1],
        scope=[typeset(sentence) for sentence in scope],
        caveats=sorted(caveats, key=lambda caveat: not caveat[1]),
        sentences=[typeset(sentence) for sentence in words[1:]],
        at_once=SENTENCES_AT_ONCE,
        styles=styles,
        formulas={entry["label"]: entry.get("formula", "") for entry in evidence.settings.get("losses", [])},
        facts=_facts(evidence, fair),
        collapsed_runs=[run for run in evidence.runs if run.state == "collapsed"],
        open_runs=[run for run in evidence.runs if run.record is None],
        intervals=_intervals(evidence, styles),
        ranks=_ranks(evidence, styles),
        critical_differences=_critical_differences(evidence, styles),
        losses_table=losses_table(evidence, evidence.headline),
        further_metrics=(further := [name for name in evidence.paired if name not in evidence.headline]),
        further_table=losses_table(evidence, further),
        presence_table=presence_table(evidence),
        ranks_table=ranks_table(evidence.verdict),
        size_table=size_table(evidence),
        points=(points := evidence.verdict.get("operating_points") or {}),
        points_of_losses=points_of_losses(points),
        points_of_pairs=points_of_pairs(points),
        noise_known=_noise(evidence) is not None,
        pairs_table=pairs_table(evidence.verdict),
        class_tables=class_tables(evidence),
        primary=evidence.primary,
        metric_name=metric_name,
        typeset=typeset,
        paired=_paired(evidence, styles),
        distributions=[
            Figure(f"{metric_name(name)}, {_cases(evidence, name)}", distribution_plot(evidence.paired[name], styles))
            for name in evidence.headline
        ],
        curves=_curves(evidence, styles),
        runs_of={
            loss: sum(run.key.loss == loss and run.state != "collapsed" and bool(run.events) for run in evidence.runs)
            for loss in evidence.losses
        },
        diagnostics=diagnostics_table(evidence),
        rates=rates_table(evidence),
        references=checked,
        overlays=make_overlays(
            evidence, styles, volumes, [(item.case, item.words, item.suspicion.change) for item in checked.doubtful]
        ),
        compute=compute_table(evidence),
        runs=runs_table(evidence),
        fairness=fairness,
        fair=fair,
    )


def _facts(evidence: Evidence, fair: bool | None) -> list[tuple[str, str]]:
    """Return what the first screen says of the study, as label and value."""
    settings = evidence.settings
    dataset = settings.get("dataset", {})
    seconds = sum(float((run.record or {}).get("seconds") or 0) for run in evidence.finished)
    noise = _noise(evidence)
    pairing = {True: "proven: equal hashes", False: "BROKEN: hashes differ", None: "one run only"}[fair]
    return [
        ("dataset", f"{dataset.get('name', '–')}, {dataset.get('cases', len(set(evidence.table['case'])))} cases"),
        ("runs", f"{len(evidence.finished)} of {len(evidence.runs)} are in"),
        (
            "design",
            f"{_arms(evidence)} × {counted(settings.get('folds', 1), 'fold', 'folds')} × "
            f"{counted(len(settings.get('seeds', [0])), 'seed', 'seeds')}",
        ),
        ("fair pairing", pairing),
        (
            "noise between seeds",
            "not measured" if noise is None else f"{factor(evidence.primary) * noise:.2f} {unit(evidence.primary)}",
        ),
        ("compute", duration(seconds)),
    ]


def _arms(evidence: Evidence) -> str:
    again = sum(bool(entry.get("control")) for entry in evidence.settings.get("losses", []))
    found = counted(len(evidence.losses) - again, "loss", "losses")
    return f"({found} + {again} control{'s' * (again > 1)})" if again else found


def _noise(evidence: Evidence) -> float | None:
    """Return the standard deviation between seeds of one loss in the primary metric."""
    found: float | None = (evidence.verdict["noise_floor"].get(evidence.primary) or {}).get("sd_between_seeds")
    return found


def _intervals(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    for metric in evidence.headline:
        controls = evidence.verdict.get("controls", {})
        pairs = seen_from(evidence.verdict["pairs"], metric, evidence.verdict.get("recommended"), controls)
        if pairs:
            plot = interval_plot(pairs, metric, metric_of(metric).higher_is_better, styles)
            found.append(Figure(f"{metric_name(metric)}, {_cases(evidence, metric)}", plot))
    return found


def _cases(evidence: Evidence, metric: str) -> str:
    return counted(len(evidence.paired[metric].cases), "case", "cases")


def _ranks(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    rankings: Mapping[str, Any] = evidence.verdict.get("ranking", {})
    for metric in evidence.headline:
        ranking = rankings.get(metric)
        if ranking and len(ranking["losses"]) > 1:
            tau, count = ranking.get("tau"), len(ranking["losses"])
            shown = f"The first {MOST_RANKS} of {count}. " if count > MOST_RANKS else ""
            note = f"{shown}Darkest: rank 1. Redrawn with the noise of patients and of trainings."
            if tau is not None:
                note += f" Kendall's τ of redrawn rankings with this one: {tau:.2f} (1 is stable)."
            found.append(Figure(f"{metric_name(metric)}, {_cases(evidence, metric)}", rank_plot(ranking, styles), note))
    return found


def _critical_differences(evidence: Evidence, styles: Styles) -> list[Figure]:
    found = []
    for metric in evidence.headline:
        ranking = evidence.verdict.get("ranking", {}).get(metric)
        plot = critical_difference_plot(ranking, styles) if ranking else None
        if plot is not None:
            pairs = [entry for entry in evidence.verdict["pairs"] if entry["metric"] == metric]
            note = rank_sentence(ranking, unlike_the_verdict(ranking, pairs))
            found.append(Figure(metric_name(metric), plot, note))
    return found


def _paired(evidence: Evidence, styles: Styles) -> list[tuple[Figure, Deciders]]:
    """Return the recommended loss against each other, in the primary metric and the first distance."""
    metrics = [evidence.primary, *(name for name in evidence.headline[1:] if name.endswith("_mm"))][:2]
    found = []
    for metric in (name for name in metrics if name in evidence.paired):
        item = evidence.paired[metric]
        first = evidence.verdict.get("recommended")
        if first not in item.losses:
            continue
        for second in [name for name in item.losses if name != first][:MAXIMUM_PAIR_PLOTS]:
            deciders = deciding_cases(item, first, second)
            title = f"{first} against {second}: {metric_name(metric)}"
            plot = paired_plot(item, first, second, deciders.cases, styles)
            found.append((Figure(title, plot, deciders.sentence), deciders))
    return found


def _curves(evidence: Evidence, styles: Styles) -> list[Figure]:
    """Return curves of validation and gradients for all losses together, and of each loss's own training loss."""
    runs = evidence.runs
    plots: Sequence[tuple[str, Markup | None, str]] = [
        ("Validation Dice", curve_plot(curves(runs, "validation", field("mean_dice")), "Validation Dice", styles), ""),
        (
            "Validation 95 % Hausdorff (mm)",
            curve_plot(curves(runs, "validation", class_mean("hausdorff95_mm")), "95 % Hausdorff", styles),
            "",
        ),
        (
            "Validation Hausdorff (mm)",
            curve_plot(curves(runs, "validation", class_mean("hausdorff_mm")), "Hausdorff", styles),
            "",
        ),
        *[
            (
                f"Training loss of {loss}",
                curve_plot(
                    curves([run for run in runs if run.key.loss == loss], "train", field("loss")),
                    f"Training loss of {loss}",
                    styles,
                ),
                "Values of different losses cannot be compared with each other.",
            )
            for loss in evidence.losses
        ],
        ("Learning rate", curve_plot(curves(runs, "train", field("learning_rate")), "Learning rate", styles), ""),
        (
            "Norm of the gradient",
            curve_plot(curves(runs, "train", field("gradient_norm")), "Gradient norm", styles, logarithmic=True),
            "Over all weights, before clipping.",
        ),
        (
            "Share of the gradient on foreground",
            curve_plot(curves(runs, "train", field("logit_gradient_foreground")), "Share on foreground", styles),
            "Gradient with respect to the logits.",
        ),
    ]
    return [Figure(title, svg, note) for title, svg, note in plots if svg is not None]
