"""Drawing in SVG: escaped elements, linear and logarithmic scales, and axes.

Figures are inline SVG whose text stays text: they print sharp and can be searched, and each mark shows its name and
value on hover without a script.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup, escape

from pipeline.report.formatting import MINUS
from pipeline.report.styles import Styles

WIDTH = 370
"""Width of a figure in its own units."""


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return an SVG element; attributes that are None are left out, ``_`` becomes ``-``, and text is escaped.

    Examples
    --------
    >>> element("text", "<b>", text_anchor="end", class_="tick", x=1.50, y=None)
    Markup('<text text-anchor="end" class="tick" x="1.5">&lt;b&gt;</text>')
    """
    parts = []
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    content = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{content}</{name}>")


def fragment(parts: Sequence[Markup]) -> Markup:
    """Return elements one after the other, without an element around them."""
    return Markup("").join(parts)


def chart(width: float, height: float, label: str, *children: Markup) -> Markup:
    """Return a figure that scales with the page; screen readers read `label`."""
    return element(
        "svg",
        *children,
        class_="chart",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def style_sheet() -> Markup:
    """Return the CSS rules of all figures."""
    return Markup((files("pipeline.report") / "templates" / "figures.css").read_text(encoding="utf-8"))


def standalone_figure(width: float, height: float, label: str, *children: Markup) -> str:
    """Return the text of an SVG file with its own style sheet, on white ground."""
    figure = element(
        "svg",
        element("style", style_sheet()),
        element("rect", width=float(width), height=float(height), fill="#fff"),
        *children,
        class_="chart",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=float(width),
        height=float(height),
        role="img",
        aria_label=label,
    )
    return f"{figure}\n"


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a line of text."""
    return element("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def legend(styles: Styles, names: Sequence[str], x: float, y: float) -> Markup:
    """Return the names of lines beside their colors, in one row from `x` on; `y` is the baseline."""
    parts = []
    for name in names:
        parts.append(element("rect", x=float(x), y=y - 10.0, width=12.0, height=12.0, fill=styles[name].color))
        parts.append(text(x + 17, y, name))
        x += 36 + 6.6 * len(name)
    return element("g", *parts)


@dataclass(frozen=True, slots=True)
class Scale:
    """Map from values in `low`..`high` to positions in `start`..`end`.

    Examples
    --------
    >>> scale = Scale(0, 10, 100, 200)
    >>> scale(5), scale.ticks()
    (150.0, [0, 2, 4, 6, 8, 10])
    >>> Scale(1, 100, 0, 10, logarithmic=True)(10)
    5.0
    >>> Scale(0.1, 1.5, 0, 10, logarithmic=True).ticks()
    [0.1, 1.0]
    >>> Scale(0.15, 1.5, 0, 10, logarithmic=True).ticks()
    [0.2, 0.5, 1.0]
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value; values outside are drawn at most 2 % beyond the ends."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values inside the scale.

        On a logarithmic scale these are powers of ten, whatever `count` is; if there are fewer than two, their
        multiples by 2 and 5 as well.
        """
        if self.logarithmic:
            return self._logarithmic_ticks()
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / count
        base = 10 ** math.floor(math.log10(raw))
        # The tolerances accept a step or an end that misses a round number by a rounding error alone.
        step = next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _logarithmic_ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for multiples in ((1,), (1, 2, 5)):
            values = [multiple * 10.0**decade for decade in decades for multiple in multiples]
            inside = [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(inside) > 1:
                return inside
        return [self.low, self.high]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False) -> "Scale":
        """Return a scale that holds all values, with 5 % of their range on each side (15 % if logarithmic)."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if logarithmic:
            low = max(low, high * 1e-6, 1e-12)
            return cls(low / 1.15, max(high, low) * 1.15, start, end, True)
        room = 0.05 * (high - low) or abs(high) * 0.05 or 0.5
        return cls(low - room, high + room, start, end)


def tick_label(value: float) -> str:
    """Return a short number for an axis.

    Examples
    --------
    >>> tick_label(0.30000000000000004), tick_label(-2.5), tick_label(250000)
    ('0.3', '−2.5', '2e+05')
    """
    if abs(value) < 1e-12:
        return "0"
    return f"{value:g}".replace("-", MINUS) if abs(value) < 1e5 else f"{value:.0e}"


def x_axis(scale: Scale, top: float, bottom: float, label: str, count: int = 5) -> Markup:
    """Return grid lines, numbers and the label of a horizontal axis."""
    parts = []
    for value in scale.ticks(count):
        x = scale(value)
        parts.append(element("line", x1=x, x2=x, y1=float(top), y2=float(bottom), class_="grid"))
        parts.append(text(x, bottom + 14, tick_label(value), anchor="middle", class_="tick"))
    parts.append(text((scale.start + scale.end) / 2, bottom + 30, label, anchor="middle", class_="axis"))
    return fragment(parts)


def y_axis(scale: Scale, left: float, right: float, count: int = 5) -> Markup:
    """Return grid lines and numbers of a vertical axis; its label is the title of the figure."""
    parts = []
    for value in scale.ticks(count):
        y = scale(value)
        parts.append(element("line", x1=float(left), x2=float(right), y1=y, y2=y, class_="grid"))
        parts.append(text(left - 6, y + 3.5, tick_label(value), anchor="end", class_="tick"))
    return fragment(parts)
