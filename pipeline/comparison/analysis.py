"""The arithmetic of a comparison: everything in a verdict but its sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.comparison.controls import controls_of, gaps_of_controls
from pipeline.comparison.loss_results import loss_results
from pipeline.comparison.operating_points import operating_points
from pipeline.comparison.pairing import Paired, complete_losses, pair, usable_rows
from pipeline.comparison.pairs import Comparison, compare_pairs, decide, more_needed, near_best
from pipeline.comparison.presence import collapse_of, presence
from pipeline.comparison.ranking import pareto, ranking, ranking_over_metrics
from pipeline.comparison.recommend import choose
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
from pipeline.errors import ConfigError, RecordError
from pipeline.records.metrics import metric_of
from pipeline.records.states import FAILURES, State
from pipeline.records.verdict import LossResult, PartDifference, Verdict

PRIMARY = ("dice", "iou", "nsd", "hausdorff95_mm")
"""The first of these that the table has decides."""

HEADLINE = ("dice", "hausdorff95_mm", "hausdorff_mm", "assd_mm", "nsd")
"""Metrics that are compared unless others are asked for."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """A verdict without its sentences, and what these are written from.

    Attributes
    ----------
    verdict
        All its numbers.
    compared
        The comparison by each metric; empty if no loss has results.
    reversals
        Parts of the data that contradict the whole.
    """

    verdict: Verdict
    compared: Mapping[str, Comparison]
    reversals: Sequence[Reversal] = ()


@dataclass(frozen=True, slots=True)
class _Arms:
    """Losses that take part, controls among them, and those that do not, with the reason."""

    names: list[str]
    controls: dict[str, str]
    aside: dict[str, str]
    dropped: dict[str, str]


def analyze(
    table: pd.DataFrame,
    settings: ComparisonSettings,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
) -> Analysis:
    """Compare losses from the long table alone; `pipeline.comparison.verdict.compare` describes the arguments."""
    rows, collapsed = usable_rows(table)
    rows = _of_classes(rows, settings.classes)
    if (rows["state"] == State.COLLAPSED).all():
        return _without_results(dict.fromkeys(collapsed, "all its runs collapsed"), collapsed, settings)
    arms = _arms(rows, collapsed, dropped or {})
    if not arms.names:
        return _without_results(arms.aside, collapsed, settings)
    names, controls = arms.names, arms.controls
    paired = {
        name: found
        for name in _chosen_metrics(rows, settings.metrics)
        if (found := pair(rows, name, names, settings.miss_value)) is not None and set(found.losses) - set(controls)
    }
    if not paired:
        raise RecordError(
            "the table", "has no metric with values on common cases", "give results of all losses on the same cases"
        )
    primary = _primary(paired, settings.metrics)
    compared = {
        name: compare_pairs(
            item, settings.margins, settings.confidence, settings.training_sd if name == primary else None
        )
        for name, item in paired.items()
    }
    main = compared[primary]
    kind, candidates = decide(main, controls)
    if kind == "inconclusive" and dropped and set(names) - set(controls) == set(candidates) and len(candidates) == 1:
        kind = "winner"  # of the race: all others were dropped as clearly behind
    by_case = [name for name, item in paired.items() if item.info.is_distance and _has_misses(rows, name)]
    choice = choose(near_best(candidates, main.pairs), compared, primary, collapsed, by_case)
    rankings = {
        name: ranking(item.paired, item.units, item.errors, item.pairs, name in by_case)
        for name, item in compared.items()
    }
    parts = parts_of(rows[rows["loss"].isin(names)])
    best = candidates[0]
    inside = [
        difference
        for name, item in paired.items()
        if best in item.losses
        for difference in within_parts(parts, name, names, best, settings)
    ]
    points = None
    if thresholds is not None and len(thresholds):
        patients = dict(zip(rows["case"], rows["patient"], strict=True))
        chosen = _with_collapsed(thresholds, table)
        chosen = chosen[chosen["loss"].astype(str).isin(names)]
        points = operating_points(chosen, choice.loss, controls=controls, patients=patients, settings=settings)
    intervals = {name: item.intervals_of_means(settings.resamples, settings.seed) for name, item in compared.items()}
    pairs = tuple(result for item in compared.values() for result in item.pairs)
    verdict = Verdict(
        verdict=kind,
        recommended=choice.loss,
        primary=primary,
        candidates=candidates,
        losses=tuple(loss_results(compared, intervals, rows, collapsed, arms.aside, settings.confidence)),
        pairs=pairs,
        noise_floor={name: item.noise for name, item in compared.items()},
        smallest_detectable={name: item.smallest_detectable() for name, item in compared.items()},
        more_needed=more_needed(kind, main, candidates),
        ranking=rankings,
        by_class=tuple(means_by_class(rows, list(paired))),
        pareto=tuple(pareto(paired, [name for name in names if name not in controls], by_case)),
        collapsed=collapsed,
        cases=len(main.paired.cases),
        ranking_over_metrics=ranking_over_metrics(rankings),
        by_size=tuple(means_by_size(parts, list(paired))),
        within_parts=tuple(inside),
        set_aside=arms.aside,
        confidence=settings.confidence,
        controls=controls,
        aa=tuple(gaps_of_controls(pairs, controls)),
        dropped=arms.dropped,
        operating_points=points,
        replicated=main.replicated,
        training_sd=settings.training_sd,
        reason=choice.reason,
        classes=tuple(str(name) for name in dict.fromkeys(rows["class"])),
        left_out={name: item.left_out for name, item in paired.items()},
        presence=tuple(presence(rows)),
    )
    return Analysis(verdict, compared, _contradictions(rows, paired, inside, best, controls))


def _arms(rows: pd.DataFrame, collapsed: dict[str, int], dropped: Mapping[str, str]) -> _Arms:
    """Return which losses take part; a control whose own loss takes no part does not either."""
    names, aside = complete_losses(rows[~rows["loss"].isin(list(dropped))], collapsed)
    every = {*rows["loss"], *collapsed}
    out = {name: why for name, why in dropped.items() if name in every}
    aside = {name: why for name, why in aside.items() if name not in dropped}
    aside |= {name: f"dropped by the race, {why}" for name, why in out.items()}
    controls = controls_of(names, every)
    alone = {name: f"its own loss {loss} takes none" for name, loss in controls.items() if loss not in names}
    return _Arms(
        [name for name in names if name not in alone],
        {name: loss for name, loss in controls.items() if name not in alone},
        aside | alone,
        out,
    )


def _of_classes(rows: pd.DataFrame, classes: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of the classes asked for."""
    if classes is None:
        return rows
    known = [str(name) for name in dict.fromkeys(rows["class"])]
    unknown = [name for name in classes if name not in known]
    if unknown or not classes:
        raise ConfigError(
            f"class {', '.join(unknown) or '(none)'}", "is not in the table", f"it has {', '.join(known)}"
        )
    return rows[rows["class"].isin(list(classes))]


def _chosen_metrics(rows: pd.DataFrame, metrics: Sequence[str] | None) -> list[str]:
    """Return the metrics to compare."""
    present = [str(name) for name in dict.fromkeys(rows["metric"])]
    unknown = [name for name in metrics or () if name not in present]
    if unknown:
        raise ConfigError(f"metric {', '.join(unknown)}", "is not in the table", f"it has {', '.join(present)}")
    return list(metrics or [name for name in HEADLINE if name in present] or present)


def _primary(paired: Mapping[str, Paired], metrics: Sequence[str] | None) -> str:
    """Return the metric that decides.

    Raises
    ------
    ConfigError
        For a metric that cannot rank losses by itself, or whose direction is not known.
    """
    first = next((name for name in (*(metrics or ()), *PRIMARY) if name in paired), None)
    first = first or next((name for name in paired if metric_of(name).rankable), next(iter(paired)))
    if not metric_of(first).rankable:
        raise ConfigError(
            f"metric {first}",
            "cannot rank losses: it is unknown whether larger is better, or it depends on the size of structures",
            f"put a metric first that can, for example {', '.join(PRIMARY)}",
        )
    return first


def _has_misses(rows: pd.DataFrame, metric: str) -> bool:
    return bool(((rows["metric"] == metric) & rows["state"].isin(FAILURES)).any())


def _contradictions(
    rows: pd.DataFrame,
    paired: Mapping[str, Paired],
    inside: Sequence[PartDifference],
    best: str,
    controls: Mapping[str, str],
) -> list[Reversal]:
    """Return the classes, sizes or unequal cases that contradict the whole."""
    found: list[Reversal] = []
    for name, item in paired.items():
        counted = [difference for difference in inside if difference.metric == name and difference.b not in controls]
        means = [mean for loss, mean in zip(item.losses, item.means, strict=True) if loss not in controls]
        leader = max(means) if item.higher_is_better else min(means)
        leads = best in item.losses and item.means[item.losses.index(best)] == leader
        found += reversals(counted, best) if leads else []
        found += [one for one in reversals_of_plain_means(rows, item) if not {one.better, one.worse} & set(controls)]
    return found


def _with_collapsed(thresholds: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds with a Dice of 0 for collapsed runs that left none."""
    run = [name for name in ("loss", "fold", "seed") if name in table and name in thresholds]
    if "state" not in table or "loss" not in run or "class" not in table:
        return thresholds
    failed = table[(table["state"] == State.COLLAPSED) & (table["metric"] == "dice")]
    known = pd.MultiIndex.from_frame(thresholds[run].drop_duplicates())
    failed = failed[~pd.MultiIndex.from_frame(failed[run]).isin(known)]
    if failed.empty:
        return thresholds
    grid = pd.DataFrame({"threshold": np.sort(thresholds["threshold"].unique())})
    zeros = failed[[*run, "case", "class"]].merge(grid, how="cross").assign(dice=0.0)
    return pd.concat([thresholds, zeros], ignore_index=True)


def _without_results(aside: Mapping[str, str], collapsed: Mapping[str, int], settings: ComparisonSettings) -> Analysis:
    """Return that there is no verdict, because no run left results."""
    losses = []
    for name in aside:
        runs = collapsed.get(name, 0)
        collapse = collapse_of(runs, runs, settings.confidence)
        losses.append(LossResult(name=name, collapsed_runs=runs, collapse=collapse))
    verdict = Verdict(
        verdict="inconclusive",
        recommended=None,
        primary="",
        losses=tuple(losses),
        collapsed=dict(collapsed),
        set_aside=dict(aside),
        confidence=settings.confidence,
    )
    return Analysis(verdict, {})
