"""The figures of the page with their titles and notes."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.comparison.evidence import Evidence
from pipeline.comparison.phrases import counted
from pipeline.records.events import TrainEvent, ValidationEvent
from pipeline.records.metrics import metric_of
from pipeline.report.critical_difference import critical_difference_plot, rank_note, separated_by_ranks_only
from pipeline.report.curves import class_mean, curve_plot, curves
from pipeline.report.figures import (
    MAXIMUM_RANKED,
    distribution_plot,
    interval_plot,
    paired_plot,
    rank_plot,
    seen_from_recommended,
)
from pipeline.report.pair_tables import deciding_cases
from pipeline.report.styles import Styles
from pipeline.report.tables import Table

MAXIMUM_PAIR_PLOTS = 6
"""Losses that are plotted against the recommended one, for each metric."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its title and a note beneath it."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True, slots=True)
class PairFigure:
    """The plot of two losses and the table of the cases that decide between them."""

    figure: Figure
    deciding: Table


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a page; in `intervals` and `ranks` the primary metric comes first."""

    intervals: tuple[Figure, ...]
    ranks: tuple[Figure, ...]
    critical_differences: tuple[Figure, ...]
    distributions: tuple[Figure, ...]
    pairs: tuple[PairFigure, ...]
    curves: tuple[Figure, ...]


def make_figures(evidence: Evidence, styles: Styles) -> Figures:
    """Draw all figures but the pictures of cases."""
    return Figures(
        intervals=_intervals(evidence, styles),
        ranks=_ranks(evidence, styles),
        critical_differences=_critical_differences(evidence, styles),
        distributions=tuple(
            Figure(_metric_title(evidence, name), distribution_plot(evidence.paired[name], styles))
            for name in evidence.headline
        ),
        pairs=_pairs(evidence, styles),
        curves=_curves(evidence, styles),
    )


def _metric_title(evidence: Evidence, metric: str) -> str:
    return f"{metric_of(metric).heading}, {counted(len(evidence.paired[metric].cases), 'case', 'cases')}"


def _intervals(evidence: Evidence, styles: Styles) -> tuple[Figure, ...]:
    pairs = {metric: seen_from_recommended(evidence.verdict, metric) for metric in evidence.headline}
    return tuple(
        Figure(_metric_title(evidence, metric), interval_plot(found, metric, styles))
        for metric, found in pairs.items()
        if found
    )


def _ranks(evidence: Evidence, styles: Styles) -> tuple[Figure, ...]:
    figures = []
    for metric in evidence.headline:
        ranking = evidence.verdict.ranking.get(metric)
        if ranking and len(ranking.losses) > 1:
            count = len(ranking.losses)
            note = f"The first {MAXIMUM_RANKED} of {count} losses. " if count > MAXIMUM_RANKED else ""
            note += "Darkest: rank 1. The study was redrawn with the noise between patients and between trainings."
            if ranking.tau is not None:
                note += f" Kendall's τ of the redrawn rankings with this one: {ranking.tau:.2f} (1 is stable)."
            figures.append(Figure(_metric_title(evidence, metric), rank_plot(ranking, styles), note))
    return tuple(figures)


def _critical_differences(evidence: Evidence, styles: Styles) -> tuple[Figure, ...]:
    figures = []
    for metric in evidence.headline:
        ranking = evidence.verdict.ranking.get(metric)
        plot = critical_difference_plot(ranking, styles) if ranking else None
        if ranking is not None and plot is not None:
            separated = separated_by_ranks_only(ranking, evidence.verdict.pairs_of(metric))
            figures.append(Figure(metric_of(metric).heading, plot, rank_note(ranking, separated)))
    return tuple(figures)


def _pairs(evidence: Evidence, styles: Styles) -> tuple[PairFigure, ...]:
    """Return the recommended loss against each other, by the primary metric and the first distance."""
    metrics = [evidence.primary, *(name for name in evidence.headline[1:] if metric_of(name).is_distance)][:2]
    first = evidence.verdict.recommended
    figures = []
    for metric in (name for name in metrics if name in evidence.paired):
        paired = evidence.paired[metric]
        if first is None or first not in paired.losses:
            continue
        for second in [name for name in paired.losses if name != first][:MAXIMUM_PAIR_PLOTS]:
            deciding = deciding_cases(paired, first, second)
            title = f"{first} and {second}: {metric_of(metric).heading}"
            plot = paired_plot(paired, first, second, deciding.cases, styles)
            figures.append(PairFigure(Figure(title, plot, deciding.sentence), deciding.table))
    return tuple(figures)


def _curves(evidence: Evidence, styles: Styles) -> tuple[Figure, ...]:
    """Return curves of validation and gradients of all losses together, and of each loss's own training loss."""
    runs = evidence.runs
    figures = []

    def add(title: str, plot: Markup | None, note: str = "") -> None:
        if plot is not None:
            figures.append(Figure(title, plot, note))

    validation: list[tuple[str, str, Callable[[ValidationEvent], float | None]]] = [
        ("Validation Dice", "Validation Dice", lambda event: event.mean_dice),
        ("Validation 95 % Hausdorff (mm)", "95 % Hausdorff", class_mean("hausdorff95_mm")),
        ("Validation Hausdorff (mm)", "Hausdorff", class_mean("hausdorff_mm")),
    ]
    for title, label, value in validation:
        add(title, curve_plot(curves(runs, ValidationEvent, value), label, styles))
    for loss in evidence.losses:
        title, own = f"Training loss of {loss}", [run for run in runs if run.key.loss == loss]
        plot = curve_plot(curves(own, TrainEvent, lambda event: event.loss), title, styles)
        add(title, plot, "Values of different losses cannot be compared with each other.")
    rates = curves(runs, TrainEvent, lambda event: event.learning_rate)
    norms = curves(runs, TrainEvent, lambda event: event.gradient_norm)
    shares = curves(runs, TrainEvent, lambda event: event.logit_gradient_foreground)
    add("Learning rate", curve_plot(rates, "Learning rate", styles))
    norm_plot = curve_plot(norms, "Gradient norm", styles, logarithmic=True)
    add("Norm of the gradient", norm_plot, "Over all weights, before clipping.")
    share_plot = curve_plot(shares, "Share on foreground", styles)
    add("Share of the gradient on foreground", share_plot, "Gradient with respect to the logits.")
    return tuple(figures)
