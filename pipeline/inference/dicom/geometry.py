"""The check whether slices make a volume, from their positions alone; every refusal states positions in mm."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPACING_TOLERANCE = 0.02
"""Part of the mean distance between slices by which a distance may differ (and at least `LEAST_TOLERANCE_MM`)."""

LEAST_TOLERANCE_MM = 0.01
"""Smallest tolerance of a position in mm: positions are stored as text, often with two decimals."""

DRIFT_TOLERANCE_PIXELS = 0.5
"""Distance in pixels by which a slice may lie beside the line along the normal through the first slice."""

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines that differ by less are one orientation, written with different rounding.

It corresponds to 0.06°, or half a millimeter at the far end of a field of 500 mm.
"""

NEARLY_PARALLEL = 0.087
"""Direction cosines that differ by less (5°) belong to one stack, which is refused beyond `ORIENTATION_TOLERANCE`.

Planes that differ by more, such as those of a scout, are separate stacks.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a series is refused, and what the user can do."""

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in the order of their positions along the normal.

    Parameters
    ----------
    order
        Indices of the slices as given, from the lowest position along the normal to the highest.
    along_mm
        Position of each slice along the normal in mm, in that order.
    spacing_mm
        Mean distance between neighboring slices in mm.
    tilt_degrees
        Angle in degrees between the line through the slices and the normal of their planes.
    problem
        Why the slices do not make a volume; None if they do. `is_tilted` tells whether a tilt is the only reason.
    is_tilted
        True if the slices are regular but shifted sideways, as with a tilted gantry.
    """

    order: tuple[int, ...]
    along_mm: tuple[float, ...]
    spacing_mm: float
    tilt_degrees: float
    problem: Problem | None
    is_tilted: bool = False


def normal_of(orientation: Sequence[float]) -> np.ndarray:
    """Return the unit normal (3,) of the plane with these six direction cosines, in L, P, S.

    Source: DICOM PS3.3, C.7.6.2.1.1.

    Examples
    --------
    >>> normal_of([1, 0, 0, 0, 1, 0]).tolist()
    [0.0, 0.0, 1.0]
    """
    row, column = np.asarray(orientation[:3], dtype=float), np.asarray(orientation[3:], dtype=float)
    normal = np.cross(row, column)
    unit: np.ndarray = normal / np.linalg.norm(normal)
    return unit


def most_common_orientation(orientations: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the most common of several direction cosines; the first one of those that are equally common."""
    return Counter(orientations).most_common(1)[0][0]


def differ(first: Sequence[float], second: Sequence[float], tolerance: float) -> bool:
    """Return whether two sequences of numbers differ by `tolerance` or more in any position."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) >= tolerance


def angle_degrees(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the larger of the angles between the row directions and the column directions of two orientations."""
    a, b = (np.asarray(orientation, dtype=float).reshape(2, 3) for orientation in (first, second))
    a, b = (axes / np.linalg.norm(axes, axis=1, keepdims=True) for axes in (a, b))
    return float(np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1))).max())


def plane_of(orientation: Sequence[float]) -> str:
    """Return the closest plane of the body for six direction cosines: Axial, Coronal or Sagittal.

    Examples
    --------
    >>> plane_of([1, 0, 0, 0, 0, -1])
    'Coronal'
    """
    return ("Sagittal", "Coronal", "Axial")[int(np.argmax(np.abs(normal_of(orientation))))]


def spacing_tolerance_mm(spacing_mm: float) -> float:
    """Return the tolerance in mm of a distance between slices that should be `spacing_mm`."""
    return max(LEAST_TOLERANCE_MM, SPACING_TOLERANCE * spacing_mm)


def orientation_problem(orientation: Sequence[float]) -> Problem | None:
    """Return the problem of six direction cosines that are not two perpendicular unit vectors; None if they are."""
    row, column = np.asarray(orientation[:3], dtype=float), np.asarray(orientation[3:], dtype=float)
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    across = float(row @ column)
    if all(abs(length - 1) < 0.01 for length in lengths) and abs(across) < 0.01:
        return None
    return Problem(
        f"the direction cosines have lengths of {lengths[0]:.3f} and {lengths[1]:.3f} and a product of {across:.3f}: "
        "they are not two perpendicular unit vectors",
        "export the series again from the scanner or the PACS",
    )


def stack(
    positions_mm: Sequence[Sequence[float]], orientation: Sequence[float], pixel_spacing_mm: Sequence[float]
) -> Stack:
    """Order slices by position and check whether they make a volume.

    Parameters
    ----------
    positions_mm
        Center of the first pixel of each slice (N, 3) in L, P, S; no two at one position (see `at_one_position`).
    orientation
        Six direction cosines.
    pixel_spacing_mm
        Distance between rows, and between columns.

    Returns
    -------
    Stack
        With `problem` for a single slice, missing slices, a changing distance and a tilt.

    Examples
    --------
    >>> positions = [(0.0, 0.0, 3.0 * index) for index in (0, 1, 2, 4, 5)]
    >>> stack(positions, [1, 0, 0, 0, 1, 0], (1.0, 1.0)).problem.text
    '1 slice missing between 6.00 and 12.00 mm (slices are 3.00 mm apart)'
    """
    points = np.asarray(positions_mm, dtype=float)
    normal = normal_of(orientation)
    along = points @ normal
    order = np.argsort(along, kind="stable")
    along = along[order]
    ordered = tuple(int(index) for index in order), tuple(float(value) for value in along)
    if len(points) < 2:
        return Stack(*ordered, 0.0, 0.0, Problem("a single slice is not a volume", "choose another series"))

    gaps = np.diff(along)
    spacing = float(gaps.mean())
    travel = points[order][-1] - points[order][0]
    drift = points[order] - points[order][0] - np.outer(along - along[0], normal)
    drift_mm = float(np.linalg.norm(drift, axis=1).max())
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(travel - (travel @ normal) * normal), travel @ normal)))

    problem = orientation_problem(orientation) or _distance_problem(along, gaps)
    is_tilted = False
    if problem is None and drift_mm > DRIFT_TOLERANCE_PIXELS * min(pixel_spacing_mm):
        straight = np.linalg.norm(drift - np.outer((along - along[0]) / (along[-1] - along[0]), drift[-1]), axis=1)
        is_tilted = float(straight.max()) <= DRIFT_TOLERANCE_PIXELS * min(pixel_spacing_mm)
        problem = (
            Problem(
                f"the gantry was tilted by {tilt:.1f}°: the last slice lies {drift_mm:.1f} mm beside the first",
                "give --resample-tilt, or reconstruct the series without tilt",
            )
            if is_tilted
            else Problem(
                f"slices lie up to {drift_mm:.1f} mm beside each other, and not on one line",
                "export the series again, or choose another one",
            )
        )
    return Stack(*ordered, spacing, tilt, problem, is_tilted)


def at_one_position(positions_mm: Sequence[Sequence[float]]) -> list[list[int]]:
    """Return groups of the indices of slices that share a position, within `LEAST_TOLERANCE_MM`.

    Examples
    --------
    >>> at_one_position([(0.0, 0.0, 0.0), (0.0, 0.0, 3.0), (0.0, 0.0, 0.001)])
    [[0, 2], [1]]
    """
    points = np.asarray(positions_mm, dtype=float)
    groups: list[list[int]] = []
    open_groups: list[list[int]] = []
    for index in np.lexsort(points.T):
        # Points are sorted by z first: only groups opened within the tolerance in z can be joined.
        open_groups = [group for group in open_groups if points[index][2] - points[group[0]][2] < LEAST_TOLERANCE_MM]
        for group in open_groups:
            if np.abs(points[index] - points[group[0]]).max() < LEAST_TOLERANCE_MM:
                group.append(int(index))
                break
        else:
            open_groups.append([int(index)])
            groups.append(open_groups[-1])
    return groups


def _distance_problem(along: np.ndarray, gaps: np.ndarray) -> Problem | None:
    if np.abs(gaps - gaps.mean()).max() <= spacing_tolerance_mm(float(gaps.mean())):
        return None
    smallest = float(gaps.min())
    usual = float(np.median(gaps[gaps <= smallest + spacing_tolerance_mm(smallest)]))
    tolerance = spacing_tolerance_mm(usual)
    is_usual = np.abs(gaps - usual) <= tolerance
    if usual > tolerance and is_usual.mean() >= 0.5:
        multiples = np.round(gaps / usual)
        if np.abs(gaps - multiples * usual).max() <= tolerance * multiples.max():
            return _holes_problem(along, multiples, usual)
    change = int(np.argmax(np.abs(np.diff(gaps)))) + 1 if len(gaps) > 1 else 0
    return Problem(
        f"the distance between slices changes from {gaps.min():.2f} to {gaps.max():.2f} mm (at {along[change]:.2f} mm)",
        "choose a series with one distance between slices",
    )


def _holes_problem(along: np.ndarray, multiples: np.ndarray, usual: float) -> Problem:
    holes = np.flatnonzero(multiples >= 2)
    missing = int((multiples[holes] - 1).sum())
    where = ", ".join(f"between {along[hole]:.2f} and {along[hole + 1]:.2f} mm" for hole in holes[:5])
    more = f" and at {len(holes) - 5} more positions" if len(holes) > 5 else ""
    return Problem(
        f"{missing} slice{'s' if missing > 1 else ''} missing {where}{more} (slices are {usual:.2f} mm apart)",
        "send the whole series again",
    )
