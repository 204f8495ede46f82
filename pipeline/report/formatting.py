"""Numbers, durations and names as text in reports."""

import math
import re

from pipeline.comparison import phrases
from pipeline.records.metrics import metric_of

MINUS = "\N{MINUS SIGN}"
NO_VALUE = "–"


def number(value: float | None, metric: str = "") -> str:
    """Return a value of a metric; a dash if it is missing or not finite.

    Distances and values from 10 on have two decimals, all others three.

    Examples
    --------
    >>> number(0.87654, "dice"), number(3.14159, "hausdorff_mm"), number(None)
    ('0.877', '3.14', '–')
    """
    if value is None or not math.isfinite(value):
        return NO_VALUE
    digits = 2 if metric_of(metric).is_distance or abs(value) >= 10 else 3
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign; a dash if it is missing.

    Examples
    --------
    >>> signed(-1.234), signed(0.5), signed(None)
    ('−1.23', '+0.50', '–')
    """
    return NO_VALUE if value is None else phrases.signed(value, digits).replace("-", MINUS)


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share (0 to 1) in percent; a dash if it is missing.

    Examples
    --------
    >>> percent(0.256), percent(None)
    ('26 %', '–')
    """
    return NO_VALUE if share is None else f"{100 * share:.{digits}f} %"


def typeset(sentence: str) -> str:
    """Return a sentence of the verdict with minus signs instead of hyphens before its numbers.

    Examples
    --------
    >>> typeset("dice-aa: -0.72 to +0.93")
    'dice-aa: −0.72 to +0.93'
    """
    return re.sub(r"(?<![\w-])-(?=\d)", MINUS, sentence)


def p_value(value: float | None) -> str:
    """Return a p value as papers print it; a dash if it is missing.

    Examples
    --------
    >>> p_value(0.00001), p_value(0.0421)
    ('< 0.001', '0.042')
    """
    if value is None:
        return NO_VALUE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Return a time in seconds in the units that people use; a dash if it is missing.

    Examples
    --------
    >>> duration(59), duration(245), duration(7320)
    ('59 s', '4 min 05 s', '2 h 02 min')
    """
    if seconds is None:
        return NO_VALUE
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def shortened(text: str, length: int) -> str:
    """Return text, cut in the middle if it is longer than `length` characters.

    Examples
    --------
    >>> shortened("generalized_dice_focal", 11)
    'gener…focal'
    """
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[-half:]}"
