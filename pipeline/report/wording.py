"""How numbers, metrics and losses are shown in reports: names, units, colors and digits."""

import math
import re
from dataclasses import dataclass

from pipeline.comparison import phrases
from pipeline.records.metrics import metric_of

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B07800", "#56B4E9", "#5A5A5A")
"""Colors that can be told apart with any color vision; purple and orange are darker than published, for thin lines."""

DASHES = ("", "6 3", "2 3", "8 3 2 3")
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class LossStyle:
    """Color and line of one loss; the eighth loss has the color of the first and a dashed line."""

    index: int

    @property
    def color(self) -> str:
        """Hexadecimal color."""
        return OKABE_ITO[self.index % len(OKABE_ITO)]

    @property
    def bright(self) -> str:
        """The color, a third nearer to white, for lines on dark images."""
        parts = (int(self.color[at : at + 2], 16) for at in (1, 3, 5))
        return "#" + "".join(f"{value + (255 - value) // 3:02X}" for value in parts)

    @property
    def dash(self) -> str | None:
        """SVG dash pattern, None for a solid line."""
        return DASHES[(self.index // len(OKABE_ITO)) % len(DASHES)] or None


def metric_name(metric: str) -> str:
    """Return the name of a metric with its unit, for table heads and axes."""
    return metric_of(metric).heading


def bare_name(metric: str) -> str:
    """Return the name of a metric without its unit."""
    return metric_of(metric).label


def unit(metric: str) -> str:
    """Return the unit of a difference; shares are reported in points."""
    return metric_of(metric).displayed_unit


def factor(metric: str) -> float:
    """Return the factor from a stored difference to one in `unit`."""
    return metric_of(metric).factor


def number(value: float | None, metric: str = "") -> str:
    """Return a value of a metric, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = 2 if metric_of(metric).is_distance or abs(value) >= 10 else 3
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign."""
    return "–" if value is None else phrases.signed(value, digits).replace("-", MINUS)


def typeset(sentence: str) -> str:
    """Return a sentence of the verdict with minus signs in front of its numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", MINUS, sentence)


def p_value(value: float | None) -> str:
    """Return a p value as papers print it."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Return seconds as e.g. ``4 min 05 s``."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def shortened(text: str, length: int) -> str:
    """Return text cut in the middle to a length."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[-half:]}"
