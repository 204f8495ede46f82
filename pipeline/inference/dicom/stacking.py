"""The check whether the headers of a series describe one volume, and the removal of copies of slices."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.inference.dicom.geometry import (
    ORIENTATION_TOLERANCE,
    Problem,
    angle_degrees,
    at_one_position,
    differ,
)
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.plural import plural
from pipeline.inference.dicom.reading import DAMAGED, read_file

PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Pixel spacings that differ by less are the same spacing, written with different rounding."""

_SCALING = ("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")


def header_problem(group: Group, groups: Sequence[Group]) -> Problem | None:
    """Return the problem of headers that lack the geometry of a volume or contradict each other; None otherwise.

    Parameters
    ----------
    group
        The selected group.
    groups
        All groups of the study.
    """
    remedy = "export the series again with its geometry"
    related = [other for other in groups if (other.series_uid, other.matrix) == (group.series_uid, group.matrix)]
    planes = [plane for other in related for plane in other.planes]
    nowhere = sum(plane.position_mm is None or plane.orientation is None for plane in planes)
    if nowhere:
        return Problem(f"{nowhere} of {plural(len(planes), 'slice', 'slices')} have no position or orientation", remedy)
    if not group.frame_of_reference_uid:
        return Problem("it has no frame of reference", remedy)
    if group.orientation is None:
        return Problem("its slices have no orientation", remedy)
    return _rotation_problem(group, group.orientation) or _pixel_spacing_problem(group, remedy)


def _rotation_problem(group: Group, orientation: tuple[float, ...]) -> Problem | None:
    rotated = [
        plane.orientation
        for plane in group.planes
        if plane.orientation and differ(plane.orientation, orientation, ORIENTATION_TOLERANCE)
    ]
    if not rotated:
        return None
    angle = max(angle_degrees(one, orientation) for one in rotated)
    return Problem(
        f"{len(rotated)} of {len(group.planes)} slices are rotated relative to the others, by up to {angle:.2f}°; "
        f"direction cosines may differ by {ORIENTATION_TOLERANCE:g} at most",
        "export the series again with one orientation, or choose another series",
    )


def _pixel_spacing_problem(group: Group, remedy: str) -> Problem | None:
    spacings = [plane.pixel_spacing_mm for plane in group.planes]
    if any(spacing is None for spacing in spacings):
        return Problem(f"{spacings.count(None)} of {len(spacings)} slices have no pixel spacing", remedy)
    first = spacings[0] or ()
    other = next((one for one in spacings if one and differ(one, first, PIXEL_SPACING_TOLERANCE_MM)), None)
    if other:
        sizes = [" × ".join(f"{part:g}" for part in spacing) for spacing in (first, other)]
        text = f"the pixel size changes from {sizes[0]} to {sizes[1]} mm"
        return Problem(text, "choose a series with one pixel size")
    return None


def without_copies(group: Group) -> tuple[list[Plane], str | None, Problem | None]:
    """Return one slice for each position, a note on omitted copies, and the problem if there is one.

    Slices at one position must have equal pixels and equal attributes that scale them.
    """
    planes = sorted(group.planes, key=lambda plane: (plane.sop_uid, str(plane.path)))
    positions = at_one_position([plane.position_mm or () for plane in planes])
    shared = [indices for indices in positions if len(indices) > 1]
    if not shared:
        return planes, None, None
    is_series_of_volumes = all(
        len(indices) > 1 and len({planes[i].sop_uid for i in indices}) > 1 for indices in positions
    )
    if group.is_multiframe or is_series_of_volumes:
        text = f"{len(planes)} slices lie at {len(positions)} positions: a series over time, or of several contrasts"
        return planes, None, Problem(text, "split it into volumes, or choose another series")
    for indices in shared:
        if len({_hash_of_pixels(planes[index].path) for index in indices}) > 1:
            position = ", ".join(f"{value:.2f}" for value in planes[indices[0]].position_mm or ())
            text = f"{len(indices)} slices at the position ({position}) mm differ"
            remedy = "send the series again, without the slices that do not belong to it"
            return planes, None, Problem(text, remedy)
    omitted = len(planes) - len(positions)
    note = f"{plural(omitted, 'slice is a copy', 'slices are copies')} of another and left out"
    return [planes[min(indices)] for indices in positions], note, None


def _hash_of_pixels(path: Path) -> bytes:
    try:
        header = read_file(path, with_pixels=True)
    except DAMAGED:
        return str(path).encode()  # a file that cannot be read equals no other
    scaling = repr([str(header.get(keyword)) for keyword in _SCALING])
    return hashlib.sha256(scaling.encode() + bytes(header.get("PixelData") or b"")).digest()
