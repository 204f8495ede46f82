"""What values a metric can have, so that nobody is told of a difference that cannot be."""

from pipeline.comparison.pairing import Paired
from pipeline.records.metrics import metric_of


def largest_difference(metric: str) -> float | None:
    """Return the largest difference of two means that a metric allows; None where the metric has no upper end."""
    return metric_of(metric).largest


def possible(metric: str, low: float, high: float) -> tuple[float, float]:
    """Return the part of an interval of a difference that the metric allows, for people to read."""
    most = largest_difference(metric)
    return (low, high) if most is None else (max(low, -most), min(high, most))


def beyond(paired: Paired, difference: float) -> bool:
    """Whether a difference is larger than the metric allows; than the largest value of any case where it has no end."""
    most = largest_difference(paired.metric)
    return difference > (float(abs(paired.values).max()) if most is None else most)


def says_nothing(metric: str, low: float, high: float) -> bool:
    """Whether an interval of a difference holds everything that the metric allows."""
    most = largest_difference(metric)
    return most is not None and low <= -most and high >= most
