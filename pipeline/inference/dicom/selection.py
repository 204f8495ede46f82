"""Which series of a study the model is to see, by the rules of its bundle, and what is said about the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.inference.dicom.case import DicomCase, DicomError, NoImageError, case_id, case_id_of_files
from pipeline.inference.dicom.completeness import beside, damaged_cases, signs_of_missing_images
from pipeline.inference.dicom.geometry import Problem, stack
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.identity import is_valid_uid, problem_of_series, problem_of_study, problem_of_uids
from pipeline.inference.dicom.rules import Rule, keywords_of, mismatch, parse_rules
from pipeline.inference.dicom.scan import Scan, scan
from pipeline.inference.dicom.stacking import count, header_problem, without_copies
from pipeline.inference.dicom.study_location import place_of

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
        One for each study, in the order of study UIDs, then one for each study or folder of which all headers are
        damaged. Refused studies are among them, with `problem` and `remedy`.

    Raises
    ------
    ConfigError
        Where a rule is malformed.
    NoImageError
        Where no DICOM image is found, not even a damaged one.
    DicomError
        Where `series` is nowhere.
    """
    parsed = parse_rules(rules)
    found = scan(folder, keywords_of(parsed))
    if not found.groups and not found.damaged:
        held = found.left_out() or "it is empty"
        raise NoImageError(folder, f"holds no DICOM image ({held})", "name a folder with DICOM images")
    studies: dict[str, list[Group]] = {}
    for group in sorted(found.groups, key=lambda one: one.study_key):
        studies.setdefault(group.study_key, []).append(group)
    if series is not None and studies and not any(_is_named(group, series) for group in found.groups):
        raise DicomError(
            "--series", f"{series!r} is in none of {count(len(studies), 'study', 'studies')}",
            "name a series by its UID, number or description",
        )  # fmt: skip
    cases = []
    for groups in studies.values():
        contradiction = problem_of_study(group.identity for group in groups)
        if contradiction:
            cases.append(_none(groups, {}, contradiction, found))
        elif series is None:
            cases.append(_by_rules(groups, parsed, found, resample_tilt))
        elif any(_is_named(group, series) for group in groups):
            cases.append(_by_name(groups, parsed, series, found, resample_tilt))
        elif not is_valid_uid(series):
            said = {id(group): f"not taken: {group.name}: another one was asked for" for group in groups}
            problem = Problem(
                "no series of the study is the one asked for by --series", "name one of its series by number or UID"
            )
            cases.append(_none(groups, said, problem, found))
    return _told_apart([*cases, *damaged_cases(found)])


def _by_rules(groups: list[Group], rules: list[Rule], found: Scan, resample_tilt: bool) -> DicomCase:
    usable = [group for group in groups if _unusable(group) is None]
    said = {id(group): f"not taken: {group.name}: {_unusable(group)}" for group in groups if _unusable(group)}
    if not rules and len(usable) > 1:
        said |= {id(group): f"not taken: {group.name}: one of {len(usable)} volumes" for group in usable}
        problem = Problem(
            f"{len(usable)} volumes could be meant: {'; '.join(group.name for group in usable)}",
            "name one with --series, or give the bundle rules that choose",
        )
        return _none(groups, said, problem, found)
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
        f"none of {count(len({group.series_uid for group in groups}), 'series', 'series')} meets the rules "
        f"({'; '.join(said[id(group)].removeprefix('not taken: ') for group in groups)})",
        "name one with --series, or correct the bundle's rules",
    )
    return _none(groups, said, problem, found)


def _by_name(groups: list[Group], rules: list[Rule], series: str, found: Scan, resample_tilt: bool) -> DicomCase:
    named = sorted((group for group in groups if _is_named(group, series)), key=_rank)
    said = {id(group): f"not taken: {group.name}: another one was asked for" for group in groups}
    if len({group.series_uid for group in named}) > 1:
        several = Problem(
            f"{len(named)} series are named so: {'; '.join(group.name for group in named)}", "name one by its UID"
        )
        return _none(groups, said, several, found)
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
    kin = [one for one in groups if one.series_uid == group.series_uid]
    problem = problem or problem_of_series(one.identity for one in kin) or header_problem(group, groups)
    planes, notes = group.planes, []
    if problem is None:
        planes, note, problem = without_copies(group)
        notes += [note] if note else []
    problem = problem or _problem_of_uids(group, planes)
    spacing, tilt, straighten = (0.0, 0.0, 0.0), 0.0, False
    if problem is None and group.orientation and planes[0].pixel_spacing_mm:
        rows_mm, columns_mm = planes[0].pixel_spacing_mm
        built = stack([plane.position_mm or () for plane in planes], group.orientation, (rows_mm, columns_mm))
        spacing, tilt = (columns_mm, rows_mm, built.spacing_mm), built.tilt_degrees if built.is_tilted else 0.0
        planes = [planes[index] for index in built.order]
        straighten = resample_tilt and built.is_tilted and not group.is_multiframe
        problem = None if straighten else built.problem
        if straighten:
            notes.append(f"a gantry tilt of {tilt:.1f}° is resampled on a straight grid")
    files = tuple(dict.fromkeys(plane.path for plane in planes))
    damaged = beside(planes, group.study_key, found)
    uids = [group.study_uid, group.series_uid, *([planes[0].sop_uid] if group.is_multiframe else [])]
    return DicomCase(
        id=case_id(*uids) if is_valid_uid(group.study_uid) else case_id_of_files(files),
        study_uid=_shown(group.study_uid),
        series_uid=_shown(group.series_uid),
        files=files,
        place=place_of(files, found.root, group.identity.words),
        problem=f"{group.name}: {problem.text}" if problem else None,
        remedy=problem.remedy if problem else "",
        said=(*(said[id(one)] for one in groups), *notes, *_left_out(groups, damaged, found)),
        warnings=signs_of_missing_images(group, len(planes), kin, damaged),
        modality=group.modality,
        spacing_mm=spacing,
        tilt_degrees=tilt,
        resample_tilt=straighten,
    )


def _none(groups: list[Group], said: Mapping[int, str], problem: Problem, found: Scan) -> DicomCase:
    """Return the case of a study of which no series is taken; all its images are the files the problem is about."""
    study_uid = groups[0].study_uid
    files = tuple(sorted({plane.path for group in groups for plane in group.planes}))
    words = set().union(*(group.identity.words for group in groups))
    return DicomCase(
        id=case_id(study_uid) if is_valid_uid(study_uid) else case_id_of_files(files),
        study_uid=_shown(study_uid),
        study_files=files,
        place=place_of(files, found.root, words),
        problem=problem.text,
        remedy=problem.remedy,
        said=(*(said[id(group)] for group in groups if id(group) in said), *_left_out(groups, 0, found)),
    )


def _problem_of_uids(group: Group, planes: list[Plane]) -> Problem | None:
    sop_uids = [plane.sop_uid for plane in (planes[:1] if group.is_multiframe else planes)]
    return problem_of_uids(
        group.study_uid, group.series_uid, group.frame_of_reference_uid, group.identity.sop_class_uids, sop_uids
    )


def _left_out(groups: list[Group], warned_of: int, found: Scan) -> list[str]:
    """Return notes on files that are no images, and on damaged files of the study that no warning speaks of."""
    damaged = beside([plane for group in groups for plane in group.planes], groups[0].study_key, found) - warned_of
    among = [f"{count(damaged, 'damaged DICOM file lies', 'damaged DICOM files lie')} among the images of the study"]
    left_out = found.left_out()
    return [*(among if damaged else []), *([left_out] if left_out else [])]


def _shown(uid: str) -> str:
    """Return a UID that is one; others may hold anything, a name too."""
    return uid if is_valid_uid(uid) else ""


def _told_apart(cases: list[DicomCase]) -> list[DicomCase]:
    """Return the cases with a number added to ids that occur again: damaged files can be equal."""
    seen: Counter[str] = Counter()
    apart = []
    for case in cases:
        seen[case.id] += 1
        apart.append(case if seen[case.id] == 1 else replace(case, id=f"{case.id}-{seen[case.id]}"))
    return apart


def _rank(group: Group) -> tuple[int, bool, int, str]:
    return -len(group.planes), group.number is None, group.number or 0, group.series_uid
