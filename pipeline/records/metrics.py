"""The one registry of metrics: name, label, unit, direction, range and the difference that does not matter.

A new metric is one entry here and its computation in `pipeline.metrics`. Everything that compares, ranks, words or
plots a metric asks this registry.
"""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """Unit of a metric's values."""

    SHARE = "share"
    """A fraction; differences are reported in points (hundredths)."""
    MM = "mm"
    ML = "mL"
    COUNT = "count"
    NATS = "nats"


class Family(StrEnum):
    """Group of metrics that one computation gives."""

    OVERLAP = "overlap"
    HAUSDORFF = "hausdorff"
    SURFACE_AREA = "surface area"
    LESIONS = "lesions"
    CALIBRATION = "calibration"
    FOREIGN = "foreign"
    """Metrics of other tools, which are not in the registry."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Definition of a metric.

    Attributes
    ----------
    name
        Key in `cases.csv`.
    label
        Column and axis label, without the unit.
    short
        Heading of a narrow column, with the unit.
    phrase
        Name inside a sentence.
    unit
        Unit of the values.
    higher_is_better
        Direction.
    largest
        Largest possible value, None where there is no upper limit. The smallest is 0 for every metric.
    margin
        Default difference that does not matter, in `unit`.
    rankable
        True if the metric may decide or rank losses by itself. Amounts such as mL depend on the size of a structure and
        are reported only.
    family
        Metrics that are computed together.
    """

    name: str
    label: str
    short: str
    phrase: str
    unit: Unit
    higher_is_better: bool
    largest: float | None
    margin: float
    rankable: bool = True
    family: Family = Family.FOREIGN

    @property
    def best(self) -> float:
        """Value of a perfect result, and of a correct absence."""
        return (self.largest or 0.0) if self.higher_is_better else 0.0

    @property
    def worst(self) -> float | None:
        """Value of a complete failure; None where only the image's diagonal tells (distances) or nothing does."""
        return 0.0 if self.higher_is_better else self.largest

    @property
    def factor(self) -> float:
        """Factor from stored to displayed differences: 100 for shares, which are reported in points."""
        return 100.0 if self.unit is Unit.SHARE else 1.0

    @property
    def displayed_unit(self) -> str:
        """Unit of a displayed difference."""
        return {Unit.SHARE: "points", Unit.COUNT: ""}.get(self.unit, self.unit.value)

    @property
    def is_distance(self) -> bool:
        """True if values are distances in mm."""
        return self.unit is Unit.MM

    @property
    def heading(self) -> str:
        """Label with its unit, for table heads and axes."""
        return f"{self.label} ({self.unit.value})" if self.unit in (Unit.MM, Unit.ML, Unit.NATS) else self.label

    @property
    def decimals(self) -> int:
        """Number of decimals of a mean in a table."""
        return 2 if self.is_distance else 4

    def possible_interval(self, low: float, high: float) -> tuple[float, float]:
        """Return the part of an interval of a difference that the metric allows, in the metric's unit.

        With few trainings an interval may reach beyond every difference that can occur. Values lie between 0 and
        `largest`, so that no difference exceeds `largest`. Reports show only the possible part.

        Examples
        --------
        >>> metric_of("dice").possible_interval(-2.3, 0.2)
        (-1.0, 0.2)
        >>> metric_of("assd_mm").possible_interval(-30.0, 20.0)
        (-30.0, 20.0)
        """
        return (low, high) if self.largest is None else (max(low, -self.largest), min(high, self.largest))

    def is_uninformative(self, low: float, high: float) -> bool:
        """Return whether an interval of a difference contains every difference that the metric allows.

        Examples
        --------
        >>> metric_of("dice").is_uninformative(-1.2, 1.1)
        True
        """
        return self.largest is not None and low <= -self.largest and high >= self.largest


def _share(name: str, label: str, phrase: str, family: Family, short: str = "") -> Metric:
    return Metric(name, label, short or label, phrase, Unit.SHARE, True, 1.0, 0.005, family=family)


def _error(name: str, label: str, short: str, phrase: str, largest: float, family: Family) -> Metric:
    return Metric(name, label, short, phrase, Unit.SHARE, False, largest, 0.005, family=family)


def _distance(name: str, label: str, short: str, phrase: str, family: Family = Family.FOREIGN) -> Metric:
    return Metric(name, label, short, phrase, Unit.MM, False, None, 0.5, family=family)


def _volume(name: str, label: str, short: str, phrase: str, family: Family = Family.FOREIGN) -> Metric:
    return Metric(name, label, short, phrase, Unit.ML, False, None, 1.0, rankable=False, family=family)


REGISTRY = {
    metric.name: metric
    for metric in (
        _share("dice", "Dice", "Dice", Family.OVERLAP),
        _share("iou", "IoU", "IoU", Family.OVERLAP),
        _share("sensitivity", "Sensitivity", "sensitivity", Family.OVERLAP),
        _share("precision", "Precision", "precision", Family.OVERLAP),
        _error("volume_error", "Volume error", "Vol. error", "relative volume error", 2.0, Family.OVERLAP),
        _volume("volume_error_ml", "Volume error", "Vol. error mL", "volume error", Family.OVERLAP),
        _distance("hausdorff_mm", "Hausdorff", "HD mm", "Hausdorff distance", Family.HAUSDORFF),
        _distance("hausdorff95_mm", "95 % Hausdorff", "HD95 mm", "95 % Hausdorff distance", Family.HAUSDORFF),
        _distance("assd_mm", "Mean surface distance", "ASSD mm", "mean surface distance", Family.SURFACE_AREA),
        _share("nsd", "Surface Dice", "surface Dice", Family.SURFACE_AREA, short="NSD"),
        _share("lesion_f1", "Lesion F1", "lesion F1", Family.LESIONS),
        _share("lesion_dice", "Lesion-wise Dice", "lesion-wise Dice", Family.LESIONS, short="Lesion Dice"),
        _share("panoptic_quality", "Panoptic quality", "panoptic quality", Family.LESIONS, short="PQ"),
        Metric(
            "lesion_false_positives",
            "False lesions",
            "False lesions",
            "false lesions per case",
            Unit.COUNT,
            False,
            None,
            0.5,
            rankable=False,
            family=Family.LESIONS,
        ),
        _error("ece", "Calibration error", "ECE", "calibration error", 1.0, Family.CALIBRATION),
        _error(
            "ace_foreground",
            "Foreground calibration error",
            "ACE fg.",
            "foreground calibration error",
            1.0,
            Family.CALIBRATION,
        ),
        _error("brier", "Brier score", "Brier", "Brier score", 1.0, Family.CALIBRATION),
        Metric(
            "nll",
            "Log loss",
            "NLL",
            "negative log likelihood",
            Unit.NATS,
            False,
            None,
            0.01,
            family=Family.CALIBRATION,
        ),
    )
}


def names_of(*families: Family) -> tuple[str, ...]:
    """Return the metrics of some families, or of all, in the order of the registry.

    Examples
    --------
    >>> names_of(Family.SURFACE_AREA)
    ('assd_mm', 'nsd')
    """
    return tuple(name for name, metric in REGISTRY.items() if not families or metric.family in families)


def metric_of(name: str) -> Metric:
    """Return the definition of a metric.

    An unknown name that ends in ``_mm`` is a distance. The direction of any other unknown metric is not known, so that
    it can be shown but not ranked.

    Examples
    --------
    >>> metric_of("dice").phrase
    'Dice'
    >>> metric_of("my_score_mm").unit
    <Unit.MM: 'mm'>
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if name.endswith("_mm"):
        return _distance(name, name.removesuffix("_mm"), name, name)
    if name.endswith("_ml"):
        return _volume(name, name.removesuffix("_ml"), name, name)
    return Metric(name, name, name, name, Unit.SHARE, True, None, 0.005, rankable=False)
