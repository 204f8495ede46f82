"""The verdict: a winner, a set of equivalents, or that the data cannot tell, and what would."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.controls import controls_of, gaps_of_controls
from pipeline.comparison.operating_points import operating_points
from pipeline.comparison.pairing import complete_losses, pair, usable_rows
from pipeline.comparison.pairs import Comparison, Kind, compare_pairs, decide, more_needed, near_best
from pipeline.comparison.ranking import pareto, ranking, ranking_over_metrics
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
from pipeline.records.simplicity import simplicity

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
    margins: Mapping[str, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
    thresholds: pd.DataFrame | None = None,
    dropped: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare losses from the long table alone.

    Parameters
    ----------
    table
        Columns loss, case, metric, value; fold, seed, class, patient, state and volume_ml are used where present.
    metrics
        Those to compare, the one that decides first; by default the headline metrics that the table has.
    margins
        Differences that do not matter, by metric or for all distances (``mm``); by default 0.005 for shares, 0.5 mm.
    confidence
        Of the intervals.
    seed, resamples
        Of the bootstrap.
    thresholds
        Dice of each loss at a grid of thresholds (`pipeline.comparison.operating_points`): is it the loss or the
        threshold?
    dropped
        Losses that a race has dropped (`pipeline.comparison.racing`), with the reason: they are out.

    Raises
    ------
    RecordError
        Where the table is malformed, or no metric has values of two losses on common cases.
    ConfigError
        For a metric that the table lacks, or a confidence or margin out of range.
    """
    if not 0.5 < confidence < 1 or resamples < 1:
        raise ConfigError(f"confidence {confidence:g}", "is out of range", "give e.g. 0.95, and a resample or more")
    if any(not (0 < margin < math.inf) for margin in (margins or {}).values()):
        raise ConfigError(f"margins {dict(margins or {})}", "hold one that is not above 0", "give e.g. 0.005 and 0.5")
    rows, collapsed = usable_rows(table)
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
        return _nothing(aside, collapsed, confidence)
    present = [str(name) for name in dict.fromkeys(rows["metric"])]
    unknown = [name for name in metrics or () if name not in present]
    if unknown:
        raise ConfigError(f"metric {', '.join(unknown)}", "is not in the table", f"it has {', '.join(present)}")
    wanted = list(metrics or [name for name in HEADLINE if name in present] or present)
    paired = {
        name: found
        for name in wanted
        if (found := pair(rows, name, names)) is not None and set(found.losses) - set(controls)
    }
    if not paired:
        raise RecordError(
            "the table", "has no metric with values on common cases", "give results of all losses on the same cases"
        )
    primary = next((name for name in (*(metrics or ()), *PRIMARY) if name in paired), next(iter(paired)))
    compared = {name: compare_pairs(item, margins, confidence, resamples, seed) for name, item in paired.items()}
    main = compared[primary]
    kind, candidates = decide(main, controls)
    if kind == "inconclusive" and out and set(names) - set(controls) == set(candidates) and len(candidates) == 1:
        kind = "winner"  # of the race: all others were dropped as clearly behind
    recommended = simplest(near_best(candidates, main.entries), main.entries)
    rankings = {name: ranking(item.paired, item.drawn, item.units, item.entries) for name, item in compared.items()}
    parts = parts_of(rows[rows["loss"].isin(names)])
    best = candidates[0]
    inside = [
        entry
        for name, item in paired.items()
        if best in item.losses
        for entry in within_parts(parts, name, names, best, confidence, resamples, seed)
    ]
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
    pairs = [entry for item in compared.values() for entry in item.entries]
    points: dict[str, Any] = {}
    if thresholds is not None and len(thresholds):
        patients = dict(zip(rows["case"], rows["patient"], strict=True))
        points = operating_points(
            _without_collapsed(thresholds, table), recommended, losses=names, controls=list(controls),
            patients=patients, margins=margins, confidence=confidence, resamples=resamples, seed=seed,
        )  # fmt: skip
    verdict = Verdict(
        verdict=kind,
        recommended=recommended,
        primary=primary,
        candidates=candidates,
        losses=_loss_entries(compared, rows, collapsed, aside),
        pairs=pairs,
        noise_floor={name: item.noise for name, item in compared.items()},
        smallest_detectable={name: item.smallest_detectable() for name, item in compared.items()},
        more_needed=more_needed(kind, main, candidates),
        ranking=rankings,
        by_class=means_of(rows, list(paired), "class"),
        pareto=pareto(paired, controls),
        collapsed=collapsed,
        caveats=caveats_of(main, pairs, recommended, collapsed, aside, controls),
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
    )
    verdict.caveats.extend(points.get("caveats", []))
    verdict.caveats.extend(one.sentence(name) for name, one in turned)
    verdict.words.extend(sentences(verdict))
    return verdict


def simplest(candidates: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the simplest of the candidates (best mean first) that none of them clearly beats; the better of equals."""
    beaten = {
        name
        for entry in pairs
        if {entry["a"], entry["b"]} <= set(candidates) and entry["better"] and not entry["equivalent"]
        for name in (entry["a"], entry["b"])
        if name != entry["better"]
    }
    return min((name for name in candidates if name not in beaten), key=lambda name: simplicity(name)[0])


def _without_collapsed(thresholds: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds of runs that did not collapse."""
    run = [name for name in ("loss", "fold", "seed") if name in table and name in thresholds]
    if "state" not in table or "loss" not in run:
        return thresholds
    fallen = pd.MultiIndex.from_frame(table.loc[table["state"] == "collapsed", run])
    return thresholds[~pd.MultiIndex.from_frame(thresholds[run]).isin(fallen)]


def _nothing(aside: dict[str, str], collapsed: dict[str, int], confidence: float) -> Verdict:
    """Return that there is no verdict, as no run left results."""
    said = "No loss has results"
    said += ": " + "; ".join(f"{name}: {why}" for name, why in aside.items()) if aside else ""
    entries = [{"name": n, "metrics": {}, "counts": {}, "collapsed_runs": collapsed.get(n, 0)} for n in aside]
    return Verdict(
        "inconclusive", None, "", (), entries, [], {}, {}, {}, {}, [], [], collapsed, [], 0, [said + "."],
        set_aside=aside, confidence=confidence,
    )  # fmt: skip


def _loss_entries(
    compared: Mapping[str, Comparison], rows: pd.DataFrame, collapsed: Mapping[str, int], aside: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return means and deviations of each loss, with counts of states beside them."""
    names = list(dict.fromkeys([*rows["loss"], *collapsed]))
    one = rows[rows["metric"] == next(iter(compared))]
    entries = []
    for name in names:
        states = one[one["loss"] == name]["state"].value_counts()
        metrics = {}
        for metric, item in compared.items():
            if name in item.paired.losses:
                values = item.paired.values[item.paired.losses.index(name)]
                interval = item.interval_of_mean(name) or (None, None)
            else:
                mine = rows[(rows["loss"] == name) & (rows["metric"] == metric)].groupby("case")["value"].mean()
                values, interval = mine.dropna().to_numpy(dtype=np.float64), (None, None)
            if values.size:
                metrics[metric] = {
                    "mean": float(values.mean()),
                    "median": float(np.median(values)),
                    "sd": float(values.std(ddof=1)) if values.size > 1 else None,
                    "ci_low": interval[0],
                    "ci_high": interval[1],
                    "cases": int(values.size),
                }
        counts = {state: int(states.get(state, 0)) for state in ("ok", "missed", "false_positive", "correct_absence")}
        entry = {"name": name, "metrics": metrics, "counts": counts, "collapsed_runs": collapsed.get(name, 0)}
        entries.append({**entry, "set_aside": aside.get(name)})
    return entries


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
