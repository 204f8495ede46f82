"""Distances in mm that do not matter: the tolerance of surface Dice and the default margin, from the resolution.

One rule for studies and for `whichloss evaluate`. A structure can be outlined as exactly as the pixels of a slice are
fine; how far slices are apart says nothing about that, so that the coarsest edge of a voxel is not used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median

from pipeline.errors import ConfigError

MARGIN_PIXELS = 0.5
"""Default margin of distances, in pixels."""


def in_plane_edge_mm(spacing_mm: Sequence[float]) -> float:
    """Return the edge of a pixel in mm: the middle one of the three edges of a voxel.

    Slices are spanned by the two finest axes; where these differ, the coarser of them counts.

    Examples
    --------
    >>> in_plane_edge_mm((1.5, 1.5, 10.0))
    1.5
    >>> in_plane_edge_mm((0.15, 0.15, 0.15))
    0.15
    """
    _, middle, _ = sorted(spacing_mm)
    return float(middle)


def default_tolerance_mm(spacings_mm: Iterable[Sequence[float]]) -> float:
    """Return the tolerance of surface Dice for a dataset: the median edge of a pixel in mm, to four digits.

    Parameters
    ----------
    spacings_mm
        Edges of a voxel of each case, along axes in any order.

    Raises
    ------
    ValueError
        If there is no case.
    """
    edges = [in_plane_edge_mm(spacing) for spacing in spacings_mm]
    if not edges:
        raise ValueError("a tolerance needs the spacing of at least one case")
    return float(f"{median(edges):.4g}")


def default_margin_mm(spacings_mm: Iterable[Sequence[float]]) -> float:
    """Return the difference of distances that does not matter for a dataset: half a pixel, in mm.

    At 1 mm it is 0.5 mm, the default of the registry.

    Raises
    ------
    ValueError
        If there is no case.
    """
    return float(f"{MARGIN_PIXELS * default_tolerance_mm(spacings_mm):.4g}")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Tolerance of surface Dice in mm.

    Attributes
    ----------
    mm
        Tolerance of every class that `by_class` does not name.
    by_class
        Tolerances of single classes, by name.
    """

    mm: float
    by_class: Mapping[str, float] = field(default_factory=dict)

    def of(self, class_name: str) -> float:
        """Return the tolerance of a class in mm."""
        return self.by_class.get(class_name, self.mm)


@dataclass(frozen=True, slots=True)
class ToleranceRequest:
    """The tolerances that a user gave: `mm` for all classes (None: the default) and those of single classes."""

    mm: float | None = None
    by_class: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "ToleranceRequest":
        """Read ``2``, ``lesion=1,organ=3`` or ``2,lesion=1`` (2 mm for all others); None gives the default.

        Raises
        ------
        ConfigError
            For anything else, or a class that is named twice.

        Examples
        --------
        >>> ToleranceRequest.parse("2,lesion=1")
        ToleranceRequest(mm=2.0, by_class={'lesion': 1.0})
        """
        if text is None:
            return cls()
        others: float | None = None
        by_class: dict[str, float] = {}
        for part in text.split(","):
            name, equals, number = (piece.strip() for piece in part.rpartition("="))
            found = _distance(number)
            if found is None or (equals and (not name or name in by_class)) or (not equals and others is not None):
                raise ConfigError(
                    f"--tolerance-mm {text}",
                    f"cannot be read at {part.strip()!r}",
                    "give one distance in mm, e.g. 2, or one for each class, e.g. lesion=1,organ=3",
                )
            if equals:
                by_class[name] = found
            else:
                others = found
        return cls(others, by_class)

    def resolve(self, spacings_mm: Iterable[Sequence[float]]) -> Tolerance:
        """Return the tolerances of a dataset, with the default where none was given.

        Parameters
        ----------
        spacings_mm
            Edges of a voxel of each case.

        Raises
        ------
        ValueError
            If there is no case.
        """
        return Tolerance(default_tolerance_mm(spacings_mm) if self.mm is None else self.mm, self.by_class)

    def check(self, classes: Iterable[str]) -> None:
        """Refuse tolerances of classes that a dataset does not have.

        Parameters
        ----------
        classes
            Names of all classes of the foreground.

        Raises
        ------
        ConfigError
            For a class that is not among them.
        """
        known = list(classes)
        unknown = [name for name in self.by_class if name not in known]
        if unknown:
            raise ConfigError(
                f"--tolerance-mm {unknown[0]}={self.by_class[unknown[0]]:g}",
                "names a class that is not there",
                f"the classes are {', '.join(known)}",
            )


def _distance(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < inf else None
