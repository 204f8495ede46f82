"""The verdict: a winner, a set of equivalents, or that the data cannot tell, and what would."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.controls import controls_of, gaps_of_controls
from pipeline.comparison.loss_entries import FAILURES, loss_entries
from pipeline.comparison.operating_points import operating_points
from pipeline.comparison.pairing import Paired, complete_losses, pair, usable_rows
from pipeline.comparison.pairs import Kind, compare_pairs, decide, more_needed, near_best
from pipeline.comparison.presence import collapse_of, presence
from pipeline.comparison.ranking import pareto, ranking, ranking_over_metrics
from pipeline.comparison.recommend import choose
from pipeline.comparison.strata import (
    Reversal,
    means_of,
    parts_of,
    reversals,
    reversals_of_plain_means,
    within_parts,
)
from pipeline.comparison.words import caveats_of, sentences
from pipeline.errors import ConfigError, RecordError
from pipeline.records.metrics import metric_of

PRIMARY = ("dice", "iou", "nsd", "hausdorff95_mm")
"""The first of these that the table has decides."""

HEADLINE = ("dice", "hausdorff95_mm", "hausdorff_mm", "assd_mm", "nsd")
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the table says; `to_json` gives all of it as plain values. Keys are described in docs/statistics.md."""

    verdict: Kind
    recommended: str | None
    primary: str
    candidates: tuple[str, ...]
    losses: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    noise_floor: dict[str, Any]
    smallest_detectable: dict[str, float | None]
    more_needed: dict[str, Any]
    ranking: dict[str, Any]
    by_class: list[dict[str, Any]]
    pareto: list[str]
    collapsed: dict[str, int]
    caveats: list[str]
    cases: int
    words: list[str] = field(default_factory=list)
    ranking_over_metrics: dict[str, Any] = field(default_factory=dict)
    by_size: list[dict[str, Any]] = field(default_factory=list)
    within_parts: list[dict[str, Any]] = field(default_factory=list)
    set_aside: dict[str, str] = field(default_factory=dict)
    confidence: float = 0.95
    controls: dict[str, str] = field(default_factory=dict)
    aa: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    operating_points: dict[str, Any] = field(default_factory=dict)
    replicated: bool = True
    training_sd: float | None = None
    reason: str | None = None
    classes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    presence: list[dict[str, Any]] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what is not finite is null."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        result = _plain(plain)
        assert isinstance(result, dict)
        return result


def compare(
    table: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
    training_sd: float | None = None,
    miss_value: float | None = None,
    scope: Mapping[str, Any] | None = None,
) -> Verdict:
    """Compare losses from the long table alone.

    Parameters
    ----------
    table
        Columns loss, case, metric, value; fold, seed, class, patient, state and volume_ml are used where present.
    metrics
        Those to compare, the one that decides first; by default the headline metrics that the table has.
    classes
        Classes to compare, for example the tumor alone; by default all.
    margins
        Differences that do not matter, by metric, for all distances (``mm``) or all shares (``share``); by default
        those of `pipeline.records.metrics`.
    confidence
        Of the intervals; the family of all pairs of a metric is tested at ``1 - confidence``.
    seed, resamples
        Of the bootstrap of single means.
    thresholds
        Dice of each loss at a grid of thresholds (`pipeline.comparison.operating_points`): is it the loss or the
        threshold?
    dropped
        Losses that a race has dropped (`pipeline.comparison.racing`), with the reason: they are out.
    training_sd
        Standard deviation between two trainings of one loss, of the deciding metric's mean. Without folds or seeds the
        table does not show it, and without it there is neither a winner nor equivalence.
    miss_value
        What a missing distance counts as, in its unit, for tables that do not say so.
    scope
        Under which conditions the trainings ran (`pipeline.records.scope`); it is part of the verdict.

    Raises
    ------
    RecordError
        Where the table is malformed, or no metric has values of two losses on common cases.
    ConfigError
        For a metric or class that the table lacks, or a confidence or margin out of range.
    """
    if not 0.5 < confidence < 1 or resamples < 1:
        raise ConfigError(f"confidence {confidence:g}", "is out of range", "give e.g. 0.95, and a resample or more")
    if any(not (0 < margin < math.inf) for margin in (margins or {}).values()):
        raise ConfigError(f"margins {dict(margins or {})}", "hold one that is not above 0", "give e.g. 0.005 and 0.5")
    if training_sd is not None and not 0 <= training_sd < math.inf:
        raise ConfigError(f"training SD {training_sd:g}", "is not a standard deviation", "give 0.005, for example")
    rows, collapsed = usable_rows(table)
    rows = _of_classes(rows, classes)
    if (rows["state"] == "collapsed").all():
        return _nothing(dict.fromkeys(collapsed, "all its runs collapsed"), collapsed, confidence, scope)
    out = dict(dropped or {})
    names, aside = complete_losses(rows[~rows["loss"].isin(list(out))], collapsed)
    every = {*rows["loss"], *collapsed}
    aside = {name: why for name, why in aside.items() if name not in out}
    aside |= {name: f"dropped by the race, {why}" for name, why in out.items() if name in every}
    controls = controls_of(names, every)
    lone = {name: f"its own loss {loss} takes none" for name, loss in controls.items() if loss not in names}
    aside, names = aside | lone, [name for name in names if name not in lone]
    controls = {name: loss for name, loss in controls.items() if name not in lone}
    if not names:
        return _nothing(aside, collapsed, confidence, scope)
    paired = {
        name: found
        for name in _chosen_metrics(rows, metrics)
        if (found := pair(rows, name, names, miss_value)) is not None and set(found.losses) - set(controls)
    }
    if not paired:
        raise RecordError(
            "the table", "has no metric with values on common cases", "give results of all losses on the same cases"
        )
    primary = _primary(paired, metrics)
    compared = {
        name: compare_pairs(item, margins, confidence, training_sd if name == primary else None)
        for name, item in paired.items()
    }
    main = compared[primary]
    kind, candidates = decide(main, controls)
    if kind == "inconclusive" and out and set(names) - set(controls) == set(candidates) and len(candidates) == 1:
        kind = "winner"  # of the race: all others were dropped as clearly behind
    by_case = [name for name, item in paired.items() if item.info.is_distance and _has_misses(rows, name)]
    choice = choose(near_best(candidates, main.entries), compared, primary, collapsed, by_case)
    recommended = choice.loss
    rankings = {
        name: ranking(item.paired, item.units, item.errors, item.entries, name in by_case)
        for name, item in compared.items()
    }
    parts = parts_of(rows[rows["loss"].isin(names)])
    best = candidates[0]
    inside = [
        entry
        for name, item in paired.items()
        if best in item.losses
        for entry in within_parts(parts, name, names, best, confidence, miss_value)
    ]
    pairs = [entry for item in compared.values() for entry in item.entries]
    points: dict[str, Any] = {}
    if thresholds is not None and len(thresholds):
        patients = dict(zip(rows["case"], rows["patient"], strict=True))
        points = operating_points(
            _with_collapsed(thresholds, table), recommended, losses=names, controls=list(controls),
            patients=patients, margins=margins, confidence=confidence,
        )  # fmt: skip
    intervals = {name: item.intervals_of_means(resamples, seed) for name, item in compared.items()}
    verdict = Verdict(
        verdict=kind,
        recommended=recommended,
        primary=primary,
        candidates=candidates,
        losses=loss_entries(compared, intervals, rows, collapsed, aside, confidence),
        pairs=pairs,
        noise_floor={name: item.noise for name, item in compared.items()},
        smallest_detectable={name: item.smallest_detectable() for name, item in compared.items()},
        more_needed=more_needed(kind, main, candidates),
        ranking=rankings,
        by_class=means_of(rows, list(paired), "class"),
        pareto=pareto(paired, [name for name in names if name not in controls], by_case),
        collapsed=collapsed,
        caveats=[],
        cases=len(main.paired.cases),
        ranking_over_metrics=ranking_over_metrics(rankings),
        by_size=[
            {**entry, "structures": int(part[["case", "class"]].drop_duplicates().shape[0])}
            for part_kind, name, part in parts
            if part_kind == "size"
            for entry in means_of(part.assign(size=name), list(paired), "size")
        ],
        within_parts=inside,
        set_aside=aside,
        confidence=confidence,
        controls=controls,
        aa=gaps_of_controls(pairs, controls),
        dropped={name: why for name, why in out.items() if name in every},
        operating_points=points,
        replicated=main.replicated,
        training_sd=training_sd,
        reason=choice.reason,
        classes=[str(name) for name in dict.fromkeys(rows["class"])],
        left_out={name: item.left_out for name, item in paired.items()},
        presence=presence(rows),
        scope=dict(scope or {}),
    )
    verdict.caveats.extend(caveats_of(verdict, compared))
    verdict.caveats.extend(points.get("caveats", []))
    verdict.caveats.extend(one.sentence(name) for name, one in _turned(rows, paired, inside, best, controls))
    verdict.words.extend(sentences(verdict))
    return verdict


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


def _turned(
    rows: pd.DataFrame,
    paired: Mapping[str, Paired],
    inside: Sequence[Mapping[str, Any]],
    best: str,
    controls: Mapping[str, str],
) -> list[tuple[str, Reversal]]:
    """Return where a class, a size or unequal cases contradict the whole, with the metric."""
    turned: list[tuple[str, Reversal]] = []
    for name, item in paired.items():
        counted = [entry for entry in inside if entry["metric"] == name and entry["b"] not in controls]
        means = [m for loss, m in zip(item.losses, item.means, strict=True) if loss not in controls]
        leads = max(means) if item.higher_is_better else min(means)
        ahead = best in item.losses and item.means[item.losses.index(best)] == leads
        turned += [(name, one) for one in reversals(counted, best) if ahead]
        turned += [
            (name, one) for one in reversals_of_plain_means(rows, item) if not {one.better, one.worse} & set(controls)
        ]
    return turned


def _with_collapsed(thresholds: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds with a Dice of 0 for runs that collapsed and left none."""
    run = [name for name in ("loss", "fold", "seed") if name in table and name in thresholds]
    if "state" not in table or "loss" not in run or "class" not in table:
        return thresholds
    failed = table[(table["state"] == "collapsed") & (table["metric"] == "dice")]
    known = pd.MultiIndex.from_frame(thresholds[run].drop_duplicates())
    failed = failed[~pd.MultiIndex.from_frame(failed[run]).isin(known)]
    if failed.empty:
        return thresholds
    grid = pd.DataFrame({"threshold": np.sort(thresholds["threshold"].unique())})
    zeros = failed[[*run, "case", "class"]].merge(grid, how="cross").assign(dice=0.0)
    return pd.concat([thresholds, zeros], ignore_index=True)


def _nothing(
    aside: dict[str, str], collapsed: dict[str, int], confidence: float, scope: Mapping[str, Any] | None
) -> Verdict:
    """Return that there is no verdict, as no run left results."""
    known = dict(scope or {})
    said = "No loss has results"
    said += ": " + "; ".join(f"{name}: {why}" for name, why in aside.items()) if aside else ""
    entries = [
        {
            "name": name,
            "metrics": {},
            "counts": {},
            "collapsed_runs": collapsed.get(name, 0),
            "collapse": collapse_of(collapsed.get(name, 0), collapsed.get(name, 0), confidence),
        }
        for name in aside
    ]
    return Verdict(
        "inconclusive", None, "", (), entries, [], {}, {}, {}, {}, [], [], collapsed, [], 0,
        [said + ".", *known.get("words", [])], set_aside=aside, confidence=confidence, scope=known,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.bool_):
        return bool(value)
    return value
