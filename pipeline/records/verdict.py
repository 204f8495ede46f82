"""The verdict on a comparison of losses, as in `verdict.json` and the output of ``segloss compare --json``.

`pipeline.comparison` writes it; reports, MLflow and bundles read it.
"""

from math import nan
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from pipeline.errors import RecordError
from pipeline.records.budget_axis import BudgetAxis
from pipeline.records.events import StateCounts
from pipeline.records.folder import StudyFolder
from pipeline.records.model import Number, RecordModel
from pipeline.records.operating_points import OperatingPoints, VerdictKind
from pipeline.records.pair_result import PairResult
from pipeline.records.reference_check import ReferenceCheck
from pipeline.records.scope import Scope

__all__ = [
    "ClassMeans",
    "CollapseProbability",
    "ControlGap",
    "LossResult",
    "MeanRanks",
    "MetricSummary",
    "MoreNeeded",
    "NoiseFloor",
    "PartDifference",
    "Presence",
    "Ranking",
    "SizeMeans",
    "Verdict",
    "VerdictKind",
    "read_verdict",
]

Value = TypeVar("Value")


def _or_empty(value: object, handler: SerializerFunctionWrapHandler) -> object:
    return {} if value is None else handler(value)


OrEmpty = Annotated[Value | None, BeforeValidator(lambda value: value or None), WrapSerializer(_or_empty)]
"""A value that may be absent, which JSON shows as an empty object."""

RankedBy = Literal["mean", "case"]
Part = Literal["class", "size"]


class MetricSummary(RecordModel):
    """One loss by one metric.

    Attributes
    ----------
    mean, median, sd
        Over cases; `sd` is None for a single case.
    ci_low, ci_high
        Bootstrap interval of the mean; None for a single patient.
    cases
        Cases with a value.
    failure_below, failure_rate
        For shares: the share of cases below the threshold of failure.
    mean_of_hits, hits, miss_rate
        For distances: the mean where a structure was found, their number, and the share that was not found.
    """

    mean: Number
    median: Number
    sd: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    cases: int
    failure_below: float | None = None
    failure_rate: float | None = None
    mean_of_hits: float | None = None
    hits: int | None = None
    miss_rate: float | None = None


class CollapseProbability(RecordModel):
    """Collapsed trainings of a loss, and the exact interval of their probability (Clopper and Pearson 1934)."""

    runs: int
    of: int
    probability: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None


class LossResult(RecordModel):
    """One loss: a summary for each metric, counts of states in the first metric, and its collapsed runs.

    `set_aside` says why the loss takes no part in the comparison.
    """

    name: str
    metrics: dict[str, MetricSummary] = Field(default_factory=dict)
    counts: StateCounts = StateCounts()
    collapsed_runs: int = 0
    collapse: CollapseProbability | None = None
    set_aside: str | None = None


class NoiseFloor(RecordModel):
    """Standard deviation between seeds of one loss, in the metric's unit; None for a single seed.

    Attributes
    ----------
    sd_between_seeds
        Of the mean over cases, pooled over losses.
    sd_of_a_case
        Of a single case.
    largest_gap
        Largest difference between the means of two seeds of one loss.
    per_loss
        `sd_between_seeds` of each loss.
    why
        Reason for a missing value.
    """

    sd_between_seeds: float | None = None
    sd_of_a_case: float | None = None
    largest_gap: float | None = None
    seeds: int = 1
    per_loss: dict[str, float | None] = Field(default_factory=dict)
    why: str = ""


class MoreNeeded(RecordModel):
    """The smallest study that would probably decide: cases in all, seeds in all, or both `together`.

    `assurance` is the probability that it decides; `assurance_low` and `assurance_high` are that probability at the
    ends of the 80 % interval of the noise. `cases` and `seeds` are None where more of them would not decide.
    """

    cases: int | None
    seeds: int | None
    together: bool
    assurance: Number = nan
    assurance_low: Number = nan
    assurance_high: Number = nan
    cases_now: int
    seeds_now: int


class Ranking(RecordModel):
    """Ranks of the losses by one metric; 1 is best. `pipeline.comparison.ranking.ranking` describes the fields."""

    losses: tuple[str, ...]
    patients: int
    rank: tuple[float, ...] = ()
    ranked_by: RankedBy = "mean"
    mean_then_rank: tuple[float, ...]
    rank_then_mean: tuple[float, ...]
    test_based: tuple[float, ...]
    rank_frequency: tuple[tuple[float, ...], ...]
    tau: float | None = None
    friedman_p: float | None = None
    critical_difference: float | None = None
    groups: tuple[tuple[str, ...], ...] = ()


class MeanRanks(RecordModel):
    """Ranks averaged over metrics, for each way of ranking."""

    losses: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    mean_then_rank: tuple[float, ...] = ()
    rank_then_mean: tuple[float, ...] = ()
    test_based: tuple[float, ...] = ()


class ClassMeans(RecordModel):
    """Mean of one loss by one metric over the cases of one class, with counts of states."""

    metric: str
    class_name: str = Field(validation_alias=AliasChoices("class", "class_name"), serialization_alias="class")
    loss: str
    mean: float | None
    sd: float | None
    defined: int
    correct_absence: int = 0
    missed: int = 0
    false_positive: int = 0


class SizeMeans(RecordModel):
    """Mean of one loss by one metric over structures of one size, with counts of states and of structures."""

    metric: str
    size: str
    loss: str
    mean: float | None
    sd: float | None
    defined: int
    correct_absence: int = 0
    missed: int = 0
    false_positive: int = 0
    structures: int = 0


class PartDifference(RecordModel):
    """The best loss `a` minus another within one class or size.

    `ahead` is the loss with the better mean; `clear` tells whether it is clearly better.
    """

    kind: Part
    part: str
    metric: str
    a: str
    b: str
    cases: int
    difference: Number
    ci_low: float | None
    ci_high: float | None
    ahead: str
    clear: bool


class ControlGap(RecordModel):
    """A control minus the loss that it repeats: the difference that chance alone makes."""

    control: str
    loss: str
    metric: str
    difference: Number
    ci_low: Number
    ci_high: Number
    p_wilcoxon: float | None
    p_holm: Number
    clear: bool
    equivalent: bool
    noise_floor: float | None


class Presence(RecordModel):
    """Detection of one class by one loss, in numbers of cases.

    Sensitivity is the share of cases with the structure in which the class was predicted at all; specificity is the
    share of cases without it in which it was not.
    """

    loss: str
    class_name: str = Field(validation_alias=AliasChoices("class", "class_name"), serialization_alias="class")
    present: int
    detected: int
    absent: int
    correctly_absent: int
    sensitivity: float | None
    specificity: float | None


class Verdict(RecordModel):
    """The answer of a study, with all its numbers.

    Attributes
    ----------
    verdict
        A winner, a set of equivalent losses, or inconclusive.
    recommended
        The loss to use; None if no run left results.
    primary
        The metric that decides.
    candidates
        Losses that the deciding metric leaves standing, best mean first.
    losses, pairs
        Results of each loss, and of each pair of losses in each metric.
    noise_floor, smallest_detectable, ranking
        By metric.
    more_needed
        Study that would decide an inconclusive verdict.
    pareto
        Losses that no other beats in one of Dice and 95 % Hausdorff distance without losing in the other.
    collapsed
        Collapsed runs of each loss.
    cases
        Cases behind the deciding metric.
    words, caveats
        The verdict in sentences, the most important first, and what a reader must know before trusting it.
    set_aside, dropped
        Losses that take no part, and those that the race dropped, with reasons.
    controls, aa
        Arms that repeat a loss, by name, and the gaps between them.
    replicated
        True if the noise of trainings is known.
    training_sd
        The noise of trainings as stated by the user, in the unit of the deciding metric.
    reason
        Why one of several losses is recommended.
    left_out
        Values of each metric that are missing for some loss and so left out for all.
    references
        Outcome of the check of references, for studies whose images are at hand.
    budgets
        Losses, pairs and verdicts over the budgets, for studies with several.
    """

    verdict: VerdictKind
    recommended: str | None
    primary: str
    candidates: tuple[str, ...] = ()
    losses: tuple[LossResult, ...] = ()
    pairs: tuple[PairResult, ...] = ()
    noise_floor: dict[str, NoiseFloor] = Field(default_factory=dict)
    smallest_detectable: dict[str, float | None] = Field(default_factory=dict)
    more_needed: OrEmpty[MoreNeeded] = None
    ranking: dict[str, Ranking] = Field(default_factory=dict)
    by_class: tuple[ClassMeans, ...] = ()
    pareto: tuple[str, ...] = ()
    collapsed: dict[str, int] = Field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    cases: int = 0
    words: tuple[str, ...] = ()
    ranking_over_metrics: MeanRanks = MeanRanks()
    by_size: tuple[SizeMeans, ...] = ()
    within_parts: tuple[PartDifference, ...] = ()
    set_aside: dict[str, str] = Field(default_factory=dict)
    confidence: float = 0.95
    controls: dict[str, str] = Field(default_factory=dict)
    aa: tuple[ControlGap, ...] = ()
    dropped: dict[str, str] = Field(default_factory=dict)
    operating_points: OrEmpty[OperatingPoints] = None
    replicated: bool = True
    training_sd: float | None = None
    reason: str | None = None
    classes: tuple[str, ...] = ()
    left_out: dict[str, int] = Field(default_factory=dict)
    presence: tuple[Presence, ...] = ()
    scope: OrEmpty[Scope] = None
    references: ReferenceCheck | None = None
    budgets: BudgetAxis | None = None

    def pairs_of(self, metric: str) -> tuple[PairResult, ...]:
        """Return the pairs of one metric."""
        return tuple(pair for pair in self.pairs if pair.metric == metric)

    def result_of(self, loss: str) -> LossResult | None:
        """Return the results of one loss, None if it has none."""
        return next((result for result in self.losses if result.name == loss), None)

    @property
    def primary_pairs(self) -> tuple[PairResult, ...]:
        """The pairs of the deciding metric."""
        return self.pairs_of(self.primary)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values without `references` that were not checked, and without `budgets` if there is only one."""
        content = super().to_json()
        for name in ("references", "budgets"):
            if getattr(self, name) is None:
                del content[name]
        return content


def read_verdict(study: StudyFolder) -> Verdict:
    """Return the verdict of a study, of this version or an earlier one.

    Raises
    ------
    RecordError
        If there is none, or it cannot be read.
    """
    remedy = "run `segloss report` on the study"
    try:
        content = study.verdict.read_bytes()
    except OSError as error:
        raise RecordError(study.verdict, f"cannot be read ({error.strerror})", remedy) from error
    return Verdict.parse(content, study.verdict, remedy)
