"""Whether the headers of a series describe one volume, and which of its slices are copies."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.inference.dicom.geometry import (
    ORIENTATION_TOLERANCE,
    Problem,
    angle_degrees,
    at_one_place,
    differ,
)
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.reading import DAMAGED, read_file

PIXEL_SPACING_TOLERANCE_MM = 1e-4

_MEANING = ("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")


def header_problem(group: Group, groups: Sequence[Group]) -> Problem | None:
    """Describe what the headers of a group lack for a volume in space, or where they contradict each other.

    Parameters
    ----------
    groups
        All groups of the study.
    """
    again = "export the series again with its geometry"
    kin = [one for one in groups if one.series_uid == group.series_uid and one.matrix == group.matrix]
    planes = [plane for one in kin for plane in one.planes]
    nowhere = sum(plane.position_mm is None or plane.orientation is None for plane in planes)
    if nowhere:
        return Problem(f"{nowhere} of {count(len(planes), 'slice', 'slices')} have no position or orientation", again)
    if not group.frame_of_reference_uid:
        return Problem("it names no frame of reference", again)
    if group.orientation is None:
        return Problem("its slices have no orientation", again)
    return _turned(group, group.orientation) or _pixel_spacing_problem(group, again)


def _turned(group: Group, orientation: tuple[float, ...]) -> Problem | None:
    turned = [
        plane.orientation
        for plane in group.planes
        if plane.orientation and differ(plane.orientation, orientation, ORIENTATION_TOLERANCE)
    ]
    if not turned:
        return None
    angle = max(angle_degrees(one, orientation) for one in turned)
    return Problem(
        f"{len(turned)} of {len(group.planes)} slices are turned against the others, by up to {angle:.2f}°; "
        f"direction cosines may differ by {ORIENTATION_TOLERANCE:g}",
        "export the series again with one orientation, or choose another series",
    )


def _pixel_spacing_problem(group: Group, again: str) -> Problem | None:
    spacings = [plane.pixel_spacing_mm for plane in group.planes]
    if any(spacing is None for spacing in spacings):
        return Problem(f"{spacings.count(None)} of {len(spacings)} slices have no pixel spacing", again)
    first = spacings[0] or ()
    other = next((one for one in spacings if one and differ(one, first, PIXEL_SPACING_TOLERANCE_MM)), None)
    if other:
        told = [" × ".join(f"{part:g}" for part in spacing) for spacing in (first, other)]
        text = f"the size of pixels changes from {told[0]} to {told[1]} mm"
        return Problem(text, "choose a series with one size of pixels")
    return None


def without_copies(group: Group) -> tuple[list[Plane], str | None, Problem | None]:
    """Return one slice for each position, a note on copies that were left out, and the problem if there is one.

    Copies must be equal in their pixels and in the attributes that scale them.
    """
    planes = sorted(group.planes, key=lambda plane: (plane.sop_uid, str(plane.path)))
    places = at_one_place([plane.position_mm or () for plane in planes])
    crowded = [place for place in places if len(place) > 1]
    if not crowded:
        return planes, None, None
    is_stacked = all(len(place) > 1 and len({planes[i].sop_uid for i in place}) > 1 for place in places)
    if group.is_multiframe or is_stacked:
        text = f"{len(planes)} slices lie at {len(places)} positions: a series over time, or of several contrasts"
        return planes, None, Problem(text, "split it into volumes, or choose another series")
    for place in crowded:
        if len({_pixels_of(planes[index].path) for index in place}) > 1:
            position = ", ".join(f"{value:.2f}" for value in planes[place[0]].position_mm or ())
            text = f"{len(place)} slices at the position ({position}) mm differ"
            remedy = "send the series again, without the slices that do not belong to it"
            return planes, None, Problem(text, remedy)
    dropped = len(planes) - len(places)
    note = f"{count(dropped, 'slice is a copy', 'slices are copies')} of another and left out"
    return [planes[min(place)] for place in places], note, None


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def _pixels_of(path: Path) -> bytes:
    try:
        header = read_file(path, with_pixels=True)
    except DAMAGED:
        return str(path).encode()  # a file that cannot be read equals no other
    meaning = repr([str(header.get(keyword)) for keyword in _MEANING])
    return hashlib.sha256(meaning.encode() + bytes(header.get("PixelData") or b"")).digest()
