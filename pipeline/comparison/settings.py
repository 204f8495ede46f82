"""Define the settings of a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from pipeline.errors import ConfigError
from pipeline.records.study import ComparisonOptions

RESAMPLES = 2000
"""Resamples of the bootstrap."""


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """Metrics, classes, margins and confidence of a comparison.

    Attributes
    ----------
    metrics
        Metrics to compare, the deciding one first; by default the headline metrics that the table has.
    classes
        Classes to compare, for example only the tumor; by default all.
    margins
        Differences that do not matter, in the unit of the metric: by name of the metric, for all distances (``mm``) or
        for all shares (``share``). The defaults are those of `pipeline.records.metrics`.
    confidence
        Confidence of the intervals. The family of all pairs of a metric is tested at the level ``1 - confidence``.
    seed, resamples
        Random seed and number of resamples of the bootstrap, which gives the intervals of single means.
    training_sd
        Standard deviation of the deciding metric's mean between two trainings of one loss. A table without folds or
        seeds does not show it, and without it there is neither a winner nor equivalence.
    miss_value
        Value of a missing distance in mm, for tables that do not state the cost of a miss.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> ComparisonSettings(metrics=("nsd", "dice"), margins={"share": 0.01}).confidence
    0.95
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

    @property
    def options(self) -> ComparisonOptions:
        """The settings as the record of a study stores them."""
        return ComparisonOptions(
            metrics=self.metrics,
            classes=self.classes,
            margins=dict(self.margins),
            confidence=self.confidence,
            seed=self.seed,
            resamples=self.resamples,
            training_sd=self.training_sd,
            miss_value=self.miss_value,
        )

    @classmethod
    def from_options(cls, options: ComparisonOptions) -> "ComparisonSettings":
        """Return the settings that the record of a study holds.

        Raises
        ------
        ConfigError
            If a value is out of range.

        Examples
        --------
        >>> settings = ComparisonSettings(metrics=("nsd",), training_sd=0.004)
        >>> ComparisonSettings.from_options(settings.options) == settings
        True
        """
        return cls(
            metrics=options.metrics,
            classes=options.classes,
            margins=dict(options.margins),
            confidence=options.confidence,
            seed=options.seed,
            resamples=RESAMPLES if options.resamples is None else options.resamples,
            training_sd=options.training_sd,
            miss_value=options.miss_value,
        )
