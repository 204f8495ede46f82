"""Which series of a study the model is to see, by the rules of its bundle, and what is said about the others."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom

from pipeline.errors import DatasetError
from pipeline.inference.dicom.case import DicomCase, DicomError, case_id
from pipeline.inference.dicom.geometry import ORIENTATION_TOLERANCE, Problem, at_one_place, stack
from pipeline.inference.dicom.rules import Rule, keywords_of, mismatch, parse_rules
from pipeline.inference.dicom.scan import Group, Plane, Scan, scan

_MEANING = ("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")
_NO_PICTURES = {"SEG", "SR", "RTSTRUCT", "RTDOSE", "RTPLAN", "PR", "KO", "REG", "SM", "OT", "DOC", "ECG"}


def find_series(
    folder: Path,
    rules: Sequence[Mapping[str, Any]] | Mapping[str, Any] = (),
    *,
    series: str | None = None,
    resample_tilt: bool = False,
) -> list[DicomCase]:
    """Find the studies below a folder and choose one volume of each.

    Parameters
    ----------
    folder
        Mixed files of any names at any depth, or a DICOMDIR. Files that are no DICOM are counted and left out.
    rules
        Of the bundle (see `pipeline.inference.dicom.rules`); the first rule that a series meets decides, and among
        several series that meet it the one with most slices. Without rules a study must hold one volume only.
    series
        Instead of the rules: a series' UID, number or description. A modality that the rules ask for still holds.
    resample_tilt
        Accept a tilted gantry: `to_nifti` resamples such slices on a straight grid.

    Returns
    -------
    list of DicomCase
        One for each study, in the order of study UIDs. Refused studies are among them, with `problem` and `remedy`.

    Raises
    ------
    ConfigError
        Where a rule is malformed.
    DatasetError
        Where no DICOM image is found, or `series` is nowhere.
    """
    parsed = parse_rules(rules)
    found = scan(folder, keywords_of(parsed))
    if not found.groups:
        held = found.left_out() or "it is empty"
        raise DatasetError(folder, f"holds no DICOM image ({held})", "name a folder with DICOM images")
    studies: dict[str, list[Group]] = {}
    for group in sorted(found.groups, key=lambda one: one.study_uid):
        studies.setdefault(group.study_uid, []).append(group)
    cases = []
    for study_uid, groups in studies.items():
        if series is None:
            cases.append(_by_rules(study_uid, groups, parsed, found, resample_tilt))
        elif any(_is_named(group, series) for group in groups):
            cases.append(_by_name(study_uid, groups, parsed, series, found, resample_tilt))
    if not cases:
        raise DicomError(
            "--series", f"{series!r} is in none of {_count(len(studies), 'study', 'studies')}",
            "name a series by its UID, number or description",
        )  # fmt: skip
    return cases


def _by_rules(study_uid: str, groups: list[Group], rules: list[Rule], found: Scan, resample_tilt: bool) -> DicomCase:
    usable = [group for group in groups if _unusable(group) is None]
    said = {id(group): f"not taken: {group.name}: {_unusable(group)}" for group in groups if _unusable(group)}
    if not rules and len(usable) > 1:
        said |= {id(group): f"not taken: {group.name}: one of {len(usable)} volumes" for group in usable}
        problem = Problem(
            f"{len(usable)} volumes could be meant: {'; '.join(group.name for group in usable)}",
            "name one with --series, or give the bundle rules that choose",
        )
        return _none(study_uid, groups, said, problem, found)
    for rule in rules or [Rule("the only volume of the study", {})]:
        matching = sorted((group for group in usable if mismatch(rule, group.values) is None), key=_rank)
        if not matching:
            continue
        for group in usable:
            reason = mismatch(rule, group.values) or "meets the rule too, with fewer slices or a higher number"
            said[id(group)] = f"not taken: {group.name}: {reason}"
        said[id(matching[0])] = f"taken: {matching[0].name}: {rule.name}"
        return _taken(matching[0], groups, said, found, None, resample_tilt)
    for group in usable:
        reasons = "; ".join(f"{rule.name}: {mismatch(rule, group.values)}" for rule in rules)
        said[id(group)] = f"not taken: {group.name}: {reasons}"
    problem = Problem(
        f"none of {_count(len({group.series_uid for group in groups}), 'series', 'series')} meets the rules "
        f"({'; '.join(said[id(group)].removeprefix('not taken: ') for group in groups)})",
        "name one with --series, or correct the bundle's rules",
    )
    return _none(study_uid, groups, said, problem, found)


def _by_name(
    study_uid: str, groups: list[Group], rules: list[Rule], series: str, found: Scan, resample_tilt: bool
) -> DicomCase:
    named = sorted((group for group in groups if _is_named(group, series)), key=_rank)
    said = {id(group): f"not taken: {group.name}: another one was asked for" for group in groups}
    if len({group.series_uid for group in named}) > 1:
        several = Problem(
            f"{len(named)} series are named so: {'; '.join(group.name for group in named)}", "name one by its UID"
        )
        return _none(study_uid, groups, said, several, found)
    chosen = min(named, key=lambda group: (_unusable(group) is not None, _rank(group)))
    said[id(chosen)] = f"taken: {chosen.name}: asked for by --series"
    asking = [rule for rule in rules if "Modality" in rule.conditions]
    modalities = [Rule(rule.name, {"Modality": rule.conditions["Modality"]}) for rule in asking]
    problem: Problem | None = None
    unusable = _unusable(chosen)
    if unusable:
        problem = Problem(unusable, "choose another series")
    elif modalities and all(mismatch(rule, chosen.values) for rule in modalities):
        asked = " or ".join(sorted({str(rule.conditions["Modality"]) for rule in modalities}))
        text = f"is of modality {chosen.modality or 'unknown'}; the model is for {asked}"
        problem = Problem(text, "choose another series")
    return _taken(chosen, groups, said, found, problem, resample_tilt)


def _is_named(group: Group, series: str) -> bool:
    named = series.strip()
    return named in (group.series_uid, str(group.number)) or named.casefold() == group.description.strip().casefold()


def _unusable(group: Group) -> str | None:
    """Return why a group of slices is no volume to be chosen at all, from its headers."""
    if group.modality in _NO_PICTURES:
        return f"is of modality {group.modality}, not an image of a patient"
    if group.samples != 1:
        return f"is in colour ({group.samples} samples per pixel)"
    if group.photometric and not group.photometric.startswith("MONOCHROME"):
        return "is in colour (by a palette)" if "PALETTE" in group.photometric else "is in colour"
    if all(plane.position_mm is None or plane.orientation is None for plane in group.planes):
        return "has no position in the patient"
    if "LOCALIZER" in group.image_type:
        return "is a localizer"
    if len(group.planes) == 1:
        return "is a single slice"
    if group.is_concatenated:
        return "is split over several multi-frame files (a concatenation)"
    return None


def _taken(
    group: Group, groups: list[Group], said: dict[int, str], found: Scan, problem: Problem | None, resample_tilt: bool
) -> DicomCase:
    notes: list[str] = []
    problem = problem or _incomplete(group, groups)
    planes = group.planes
    if problem is None:
        planes, problem = _without_copies(group, notes)
    spacing, tilt, straighten = (0.0, 0.0, 0.0), 0.0, False
    if problem is None and group.orientation and planes[0].pixel_spacing_mm:
        rows_mm, columns_mm = planes[0].pixel_spacing_mm[:2]
        built = stack([plane.position_mm or () for plane in planes], group.orientation, (rows_mm, columns_mm))
        spacing, tilt = (columns_mm, rows_mm, built.spacing_mm), built.tilt_degrees if built.is_tilted else 0.0
        planes = [planes[index] for index in built.order]
        straighten = resample_tilt and built.is_tilted and not group.is_multiframe
        problem = None if straighten else built.problem
        if straighten:
            notes.append(f"a gantry tilt of {tilt:.1f}° is resampled on a straight grid")
    if group.images_in_acquisition and group.images_in_acquisition > len(planes):
        notes.append(f"its headers speak of {group.images_in_acquisition} images, {len(planes)} are here")
    left_out = found.left_out()
    return DicomCase(
        id=case_id(group.study_uid, group.series_uid, *([planes[0].sop_uid] if group.is_multiframe else [])),
        study_uid=group.study_uid,
        series_uid=group.series_uid,
        files=tuple(dict.fromkeys(plane.path for plane in planes)),
        problem=f"{group.name}: {problem.text}" if problem else None,
        remedy=problem.remedy if problem else "",
        said=(*(said[id(one)] for one in groups), *notes, *([left_out] if left_out else [])),
        modality=group.modality,
        spacing_mm=spacing,
        tilt_degrees=tilt,
        resample_tilt=straighten,
    )


def _none(study_uid: str, groups: list[Group], said: dict[int, str], problem: Problem, found: Scan) -> DicomCase:
    left_out = found.left_out()
    return DicomCase(
        id=case_id(study_uid),
        study_uid=study_uid,
        problem=problem.text,
        remedy=problem.remedy,
        said=(*(said[id(group)] for group in groups), *([left_out] if left_out else [])),
    )


def _incomplete(group: Group, groups: list[Group]) -> Problem | None:
    """Return what is missing in the headers for a volume in space."""
    again = "export the series again with its geometry"
    kin = [one for one in groups if one.series_uid == group.series_uid and one.matrix == group.matrix]
    planes = [plane for one in kin for plane in one.planes]
    nowhere = sum(plane.position_mm is None or plane.orientation is None for plane in planes)
    if nowhere:
        return Problem(f"{nowhere} of {_count(len(planes), 'slice', 'slices')} have no position or orientation", again)
    if not group.frame_of_reference_uid:
        return Problem("it names no frame of reference", again)
    if group.orientation is None:
        return Problem("its slices have no orientation", again)
    axes = group.orientation
    turned = [plane for plane in group.planes if _differ(plane.orientation or axes, axes, ORIENTATION_TOLERANCE)]
    if turned:
        return Problem(f"{len(turned)} of {len(group.planes)} frames lie in other planes", "choose another series")
    spacings = [plane.pixel_spacing_mm for plane in group.planes]
    if any(spacing is None for spacing in spacings):
        return Problem(f"{spacings.count(None)} of {len(spacings)} slices have no pixel spacing", again)
    first = spacings[0] or ()
    other = next((spacing for spacing in spacings if spacing and _differ(spacing, first, 1e-4)), None)
    if other:
        told = [" × ".join(f"{part:g}" for part in spacing) for spacing in (first, other)]
        text = f"the size of pixels changes from {told[0]} to {told[1]} mm"
        return Problem(text, "choose a series with one size of pixels")
    return None


def _differ(first: Sequence[float], second: Sequence[float], tolerance: float) -> bool:
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) >= tolerance


def _without_copies(group: Group, notes: list[str]) -> tuple[list[Plane], Problem | None]:
    """Return one slice for each position; copies must be equal in pixels and in what scales them."""
    planes = sorted(group.planes, key=lambda plane: (plane.sop_uid, str(plane.path)))
    places = at_one_place([plane.position_mm or () for plane in planes])
    crowded = [place for place in places if len(place) > 1]
    if not crowded:
        return planes, None
    is_stacked = all(len(place) > 1 and len({planes[i].sop_uid for i in place}) > 1 for place in places)
    if group.is_multiframe or is_stacked:
        text = f"{len(planes)} slices lie at {len(places)} positions: a series over time, or of several contrasts"
        return planes, Problem(text, "split it into volumes, or choose another series")
    for place in crowded:
        if len({_pixels_of(planes[index].path) for index in place}) > 1:
            position = ", ".join(f"{value:.2f}" for value in planes[place[0]].position_mm or ())
            text = f"{len(place)} slices at the position ({position}) mm differ"
            return planes, Problem(text, "send the series again, without the slices that do not belong to it")
    dropped = len(planes) - len(places)
    notes.append(f"{_count(dropped, 'slice is a copy', 'slices are copies')} of another and left out")
    return [planes[min(place)] for place in places], None


def _pixels_of(path: Path) -> bytes:
    header = pydicom.dcmread(path)
    meaning = repr([str(header.get(keyword)) for keyword in _MEANING])
    return hashlib.sha256(meaning.encode() + bytes(header.get("PixelData") or b"")).digest()


def _rank(group: Group) -> tuple[int, bool, int, str]:
    return -len(group.planes), group.number is None, group.number or 0, group.series_uid


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
