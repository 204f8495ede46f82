"""Judge one table of results: compare the losses by each metric, decide, and recommend one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.comparison.arms import Arms
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.pairs import Comparison, compare_pairs, decide, near_best
from pipeline.comparison.recommend import Choice, recommend
from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import ConfigError, RecordError
from pipeline.records.metrics import metric_of
from pipeline.records.states import FAILURES
from pipeline.records.verdict import VerdictKind

PRIMARY = ("dice", "iou", "nsd", "hausdorff95_mm")
"""Metrics that may decide by default: the first one that the table has."""

HEADLINE = ("dice", "hausdorff95_mm", "hausdorff_mm", "assd_mm", "nsd")
"""Metrics that are compared by default."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Comparison by each metric, and the decision.

    Attributes
    ----------
    paired, compared
        Values and comparison by each metric.
    primary
        The metric that decides.
    by_case
        Distances with misses. Their means depend on the value that a miss is given; ranks within cases do not.
    kind, candidates
        Kind of verdict, and the losses that the deciding metric leaves standing, the best mean first.
    choice
        Recommended loss.
    """

    paired: Mapping[str, Paired]
    compared: Mapping[str, Comparison]
    primary: str
    by_case: Sequence[str]
    kind: VerdictKind
    candidates: tuple[str, ...]
    choice: Choice


def judge(
    rows: pd.DataFrame,
    arms: Arms,
    collapsed: Mapping[str, int],
    settings: ComparisonSettings,
    dropped: Mapping[str, str],
    training_seconds: Mapping[str, float] | None = None,
) -> Judgement:
    """Compare the arms by each metric, decide and recommend.

    Parameters
    ----------
    rows
        From `pipeline.comparison.long_table.usable_rows`.
    arms
        Losses that are compared.
    collapsed
        Collapsed runs of each loss.
    settings
        Metrics, margins and confidence.
    dropped
        Losses that a race has dropped, with the reason.
    training_seconds
        Mean time of a training of each loss.

    Raises
    ------
    RecordError
        If no metric has values on common cases.
    ConfigError
        If the table lacks a metric, or the first metric cannot rank losses.
    """
    paired = _pair_metrics(rows, arms, settings)
    primary = _primary(paired, settings.metrics)
    compared = {
        name: compare_pairs(
            item, settings.margins, settings.confidence, settings.training_sd if name == primary else None
        )
        for name, item in paired.items()
    }
    main = compared[primary]
    kind, candidates = _decide(main, arms, dropped)
    by_case = [name for name, item in paired.items() if item.info.is_distance and _has_failures(rows, name)]
    choice = recommend(near_best(candidates, main.pairs), compared, primary, collapsed, by_case, training_seconds)
    return Judgement(paired, compared, primary, by_case, kind, candidates, choice)


def select_classes(rows: pd.DataFrame, classes: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of the requested classes; all rows by default."""
    if classes is None:
        return rows
    known = [str(name) for name in dict.fromkeys(rows["class"])]
    unknown = [name for name in classes if name not in known]
    if unknown or not classes:
        raise ConfigError(
            f"class {', '.join(unknown) or '(none)'}", "is not in the table", f"it has {', '.join(known)}"
        )
    return rows[rows["class"].isin(list(classes))]


def _pair_metrics(rows: pd.DataFrame, arms: Arms, settings: ComparisonSettings) -> dict[str, Paired]:
    """Return the values of each metric on the cases that all losses share, for metrics that have any."""
    paired = {}
    for name in _chosen_metrics(rows, settings.metrics):
        item = pair(rows, name, arms.names, settings.miss_value)
        if item is not None and set(item.losses) & set(arms.candidates):
            paired[name] = item
    if not paired:
        raise RecordError(
            "the table", "has no metric with values on common cases", "give results of all losses on the same cases"
        )
    return paired


def _chosen_metrics(rows: pd.DataFrame, metrics: Sequence[str] | None) -> list[str]:
    """Return the requested metrics; by default the headline metrics of the table, or else all that it has."""
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
        If the metric cannot rank losses by itself, or its direction is unknown.
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


def _decide(main: Comparison, arms: Arms, dropped: Mapping[str, str]) -> tuple[VerdictKind, tuple[str, ...]]:
    """Return the kind of verdict and its candidates; the last loss of a race is its winner."""
    kind, candidates = decide(main, arms.controls)
    if kind == "inconclusive" and dropped and len(candidates) == 1 and set(arms.candidates) == set(candidates):
        kind = "winner"
    return kind, candidates


def _has_failures(rows: pd.DataFrame, metric: str) -> bool:
    """Return whether some values of a metric are not measured, but set to the cost of a miss."""
    return bool(((rows["metric"] == metric) & rows["state"].isin(FAILURES)).any())
