"""How numbers, metrics and losses are shown: one name, unit, colour and precision for each, everywhere."""

import math
import re
from dataclasses import dataclass

from pipeline.comparison import words

METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "volume_error": "Volume error",
    "volume_error_ml": "Volume error (mL)",
    "hausdorff_mm": "Hausdorff (mm)",
    "hausdorff95_mm": "95 % Hausdorff (mm)",
    "assd_mm": "Mean surface distance (mm)",
    "nsd": "Surface Dice",
    "lesion_f1": "Lesion F1",
    "lesion_fp": "False lesions per case",
    "ece": "Calibration error",
    "brier": "Brier score",
}

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B07800", "#56B4E9", "#5A5A5A")
"""Told apart with any colour vision; purple and orange are darker than published, to be legible as lines on white."""

DASHES = ("", "6 3", "2 3", "8 3 2 3")
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class LossStyle:
    """Colour and line of one loss; the eighth loss has the colour of the first and a dashed line."""

    index: int

    @property
    def colour(self) -> str:
        """Hexadecimal colour."""
        return OKABE_ITO[self.index % len(OKABE_ITO)]

    @property
    def bright(self) -> str:
        """The colour a third nearer to white, to be seen on dark images."""
        parts = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        return "#" + "".join(f"{value + (255 - value) // 3:02X}" for value in parts)

    @property
    def dash(self) -> str | None:
        """SVG dash pattern, None for a solid line."""
        return DASHES[(self.index // len(OKABE_ITO)) % len(DASHES)] or None


def metric_name(metric: str) -> str:
    """Return the name that people read."""
    return METRICS.get(metric, metric)


def bare_name(metric: str) -> str:
    """Return the name without its unit, for where the unit is said."""
    return metric_name(metric).removesuffix(" (mm)").removesuffix(" (mL)")


def is_distance(metric: str) -> bool:
    """Whether a metric is in mm."""
    return metric.endswith("_mm")


def in_points(metric: str) -> bool:
    """Whether differences of the metric are said in points, i.e. hundredths of a share."""
    return not is_distance(metric) and not metric.endswith("_ml")


def unit(metric: str) -> str:
    """Return the unit of a difference."""
    if in_points(metric):
        return "points"
    return "mm" if is_distance(metric) else "mL"


def factor(metric: str) -> float:
    """Return what a difference is multiplied by to be in `unit`."""
    return 100.0 if in_points(metric) else 1.0


def number(value: float | None, metric: str = "") -> str:
    """Return a value of a metric, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = 2 if is_distance(metric) or abs(value) >= 10 else 3
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign."""
    return "–" if value is None else words.signed(value, digits).replace("-", MINUS)


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
