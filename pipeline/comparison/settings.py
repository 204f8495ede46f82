"""Settings of a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from pipeline.errors import ConfigError

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """What to compare, and how strictly.

    Attributes
    ----------
    metrics
        Metrics to compare, the one that decides first; by default the headline metrics that the table has.
    classes
        Classes to compare, for example the tumor alone; by default all.
    margins
        Differences that do not matter, by metric, for all distances (``mm``) or all shares (``share``), in the unit of
        the metric; by default those of `pipeline.records.metrics`.
    confidence
        Confidence of the intervals; the family of all pairs of a metric is tested at ``1 - confidence``.
    seed, resamples
        Random seed and number of the bootstrap resamples behind the intervals of single means.
    training_sd
        Standard deviation between two trainings of one loss, of the mean of the deciding metric. Without folds or seeds
        the table does not show it, and without it there is neither a winner nor equivalence.
    miss_value
        What a missing distance counts as, in mm, for tables that do not say so.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    metrics: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 0.95
    seed: int = 0
    resamples: int = RESAMPLES
    training_sd: float | None = None
    miss_value: float | None = None

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise ConfigError(f"confidence {self.confidence:g}", "must lie between 0.5 and 1", "give 0.95, for example")
        if self.resamples < 1:
            raise ConfigError(f"resamples {self.resamples}", "must be at least 1", "give 2000, for example")
        if any(not (0 < margin < inf) for margin in self.margins.values()):
            raise ConfigError(
                f"margins {dict(self.margins)}", "must be finite and above 0", "give 0.005 and 0.5, for example"
            )
        if self.training_sd is not None and not 0 <= self.training_sd < inf:
            raise ConfigError(
                f"training SD {self.training_sd:g}", "must be finite and at least 0", "give 0.005, for example"
            )
