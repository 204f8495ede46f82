"""Color and line style of each loss."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B07800", "#56B4E9", "#5A5A5A")
"""Palette of Okabe and Ito (2008), safe for color-blind readers; purple and orange are darker here, for thin lines."""

NEUTRAL = "#4a5560"
"""Color of marks that belong to no loss."""

DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, slots=True)
class LossStyle:
    """Color and line of the loss with this index; the eighth loss has the color of the first and a dashed line.

    Examples
    --------
    >>> LossStyle(0).color, LossStyle(7).color, LossStyle(7).dash
    ('#0072B2', '#0072B2', '6 3')
    """

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


Styles = Mapping[str, LossStyle]
"""Style of each loss by name."""


def styles_of(names: Iterable[str]) -> dict[str, LossStyle]:
    """Return a style for each name, in order; repeated names count once.

    Examples
    --------
    >>> styles_of(["ce", "dice", "ce"])
    {'ce': LossStyle(index=0), 'dice': LossStyle(index=1)}
    """
    return {name: LossStyle(index) for index, name in enumerate(dict.fromkeys(names))}
