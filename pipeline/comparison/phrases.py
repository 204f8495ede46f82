"""Format numbers, names and differences for sentences."""

from collections.abc import Sequence

from pipeline.records.metrics import metric_of


def phrase(metric: str) -> str:
    """Return the name of a metric inside a sentence."""
    return metric_of(metric).phrase


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign; one that would round to 0.00 has more digits, and 0 has no sign.

    An interval that ends at -0.004 does not contain 0, whereas "-0.00" would not show on which side of 0 it ends.

    Examples
    --------
    >>> signed(1.234), signed(-0.004), signed(0.0)
    ('+1.23', '-0.004', '0.00')
    """
    for places in range(digits, digits + 3):
        shown = f"{value:+.{places}f}"
        if float(shown) != 0:
            return shown
    return f"{0:.{digits}f}"


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "case", "cases"), counted(2, "case", "cases")
    ('1 case', '2 cases')
    """
    return f"{number} {one if number == 1 else many}"


def p_value(value: float) -> str:
    """Return a p value with ``<`` or ``=``, as papers print it.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0123)
    ('< 0.001', '= 0.012')
    """
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def amount(metric: str, value: float) -> str:
    """Return the absolute value of a difference in its displayed unit: points for shares, mm, or mL.

    Examples
    --------
    >>> amount("dice", -0.0123), amount("volume_error_ml", 1.5)
    ('1.23 points', '1.50 mL')
    """
    info = metric_of(metric)
    return f"{info.factor * abs(value):.2f} {info.displayed_unit}".rstrip()


def interval(metric: str, low: float, high: float) -> str:
    """Return the part of the interval of a difference that the metric allows.

    Examples
    --------
    >>> interval("dice", -0.01, 0.02)
    '-1.00 to +2.00'
    """
    low, high = metric_of(metric).possible_interval(low, high)
    factor = metric_of(metric).factor
    return f"{signed(factor * low)} to {signed(factor * high)}"


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration.

    Examples
    --------
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
