"""Drawing in SVG: escaped elements, a linear or logarithmic scale, axes.

Figures are inline SVG with text as text: they print sharp, can be searched, and every mark says its name and value on
hover without a script.
"""

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 370


def tag(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return an element; attributes that are None are left out, ``_`` becomes ``-``, texts are escaped."""
    parts = []
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    content = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{content}</{name}>")


def joined(parts: list[Markup]) -> Markup:
    """Return elements one after the other."""
    return Markup("").join(parts)


def chart(width: float, height: float, label: str, *children: Markup) -> Markup:
    """Return a figure that scales with the page; `label` is read to those who cannot see it."""
    return tag(
        "svg",
        *children,
        class_="chart",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a line of text."""
    return tag("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values in `low`..`high` to places in `start`..`end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value, clipped to the figure."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside the scale."""
        if self.logarithmic:
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            found = [10.0**decade for decade in decades]
            return found if len(found) > 1 else [self.low, self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / count
        base = 10 ** math.floor(math.log10(raw))
        step = next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    @classmethod
    def around(cls, values: list[float], start: float, end: float, *, logarithmic: bool = False) -> "Scale":
        """Return a scale that holds all values with a little room."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if logarithmic:
            low = max(low, high * 1e-6, 1e-12)
            return cls(low / 1.15, max(high, low) * 1.15, start, end, True)
        room = 0.05 * (high - low) or abs(high) * 0.05 or 0.5
        return cls(low - room, high + room, start, end)


def tick_label(value: float) -> str:
    """Return a short number for an axis."""
    return (
        "0"
        if abs(value) < 1e-12
        else f"{value:g}".replace("-", "\N{MINUS SIGN}")
        if abs(value) < 1e5
        else f"{value:.0e}"
    )


def x_axis(scale: Scale, top: float, bottom: float, label: str, count: int = 5) -> Markup:
    """Return grid lines, numbers and the name of a horizontal axis."""
    parts = []
    for value in scale.ticks(count):
        x = scale(value)
        parts.append(tag("line", x1=x, x2=x, y1=float(top), y2=float(bottom), class_="grid"))
        parts.append(text(x, bottom + 14, tick_label(value), anchor="middle", class_="tick"))
    parts.append(text((scale.start + scale.end) / 2, bottom + 30, label, anchor="middle", class_="axis"))
    return joined(parts)


def y_axis(scale: Scale, left: float, right: float, count: int = 5) -> Markup:
    """Return grid lines and numbers of a vertical axis; its name is the title of the figure."""
    parts = []
    for value in scale.ticks(count):
        y = scale(value)
        parts.append(tag("line", x1=float(left), x2=float(right), y1=y, y2=y, class_="grid"))
        parts.append(text(left - 6, y + 3.5, tick_label(value), anchor="end", class_="tick"))
    return joined(parts)
