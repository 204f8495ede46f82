"""Selection of the series of each study that the model is applied to, with notes about the other series."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.inference.dicom.case import DicomCase, DicomError, NoImageError, case_id, case_id_of_files
from pipeline.inference.dicom.completeness import count_damaged_beside, damaged_cases, signs_of_missing_images
from pipeline.inference.dicom.geometry import Problem, stack
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.identity import is_valid_uid, problem_of_series, problem_of_study, problem_of_uids
from pipeline.inference.dicom.plural import plural
from pipeline.inference.dicom.rules import RawRules, Rule, keywords_of, mismatch, parse_rules
from pipeline.inference.dicom.scan import Scan, scan
from pipeline.inference.dicom.stacking import header_problem, without_copies
from pipeline.inference.dicom.study_location import study_location

_OTHER_MODALITIES = {"SEG", "SR", "RTSTRUCT", "RTDOSE", "RTPLAN", "PR", "KO", "REG", "SM", "OT", "DOC", "ECG"}
"""Modalities that are not images of a patient's body as a volume."""

_NOT_SELECTED = "not selected: "

Notes = dict[int, str]
"""A note for each group of slices, by the `id` of the group."""


def find_series(
    folder: Path, rules: RawRules = (), *, series: str | None = None, resample_tilt: bool = False
) -> list[DicomCase]:
    """Find the studies below a folder and select one volume of each.

    Parameters
    ----------
    folder
        Mixed files with any names at any depth, or a DICOMDIR. Files that are not DICOM are counted and ignored.
    rules
        Rules of the bundle (see `pipeline.inference.dicom.rules`). The first rule that any series matches is used; of
        several series that match it, the one with most slices is selected. Without rules a study must have exactly
        one volume.
    series
        UID, number or description of a series. It overrides the rules, except for the modality that they require.
    resample_tilt
        Accept a tilted gantry: `to_nifti` resamples such slices on a straight grid.

    Returns
    -------
    list of DicomCase
        One case for each study, ordered by study UID, then one for each study or folder of which all headers are
        damaged. Refused studies are included, with `problem` and `remedy`.

    Raises
    ------
    ConfigError
        Where a rule is malformed.
    NoImageError
        Where there is no DICOM image, not even a damaged one.
    DicomError
        Where no study has the requested `series`.
    """
    parsed = parse_rules(rules)
    scanned = scan(folder, keywords_of(parsed))
    if not scanned.groups and not scanned.damaged:
        content = scanned.describe_others() or "it is empty"
        raise NoImageError(folder, f"holds no DICOM image ({content})", "name a folder with DICOM images")
    studies: dict[str, list[Group]] = {}
    for group in sorted(scanned.groups, key=lambda group: group.study_key):
        studies.setdefault(group.study_key, []).append(group)
    if series is not None and studies and not any(_is_named(group, series) for group in scanned.groups):
        raise DicomError(
            "--series", f"{series!r} is in none of {plural(len(studies), 'study', 'studies')}",
            "name a series by its UID, number or description",
        )  # fmt: skip
    cases = []
    for groups in studies.values():
        contradiction = problem_of_study(group.identity for group in groups)
        if contradiction:
            cases.append(_refused_study(groups, {}, contradiction, scanned))
        elif series is None:
            cases.append(_select_by_rules(groups, parsed, scanned, resample_tilt))
        elif any(_is_named(group, series) for group in groups):
            cases.append(_select_by_name(groups, parsed, series, scanned, resample_tilt))
        elif not is_valid_uid(series):
            # A UID names a series of one study only; a number or a description is expected in every study.
            notes = {id(group): f"{_NOT_SELECTED}{group.name}: another series was requested" for group in groups}
            problem = Problem("the study has no series that --series names", "name one of its series by number or UID")
            cases.append(_refused_study(groups, notes, problem, scanned))
    return _with_unique_ids([*cases, *damaged_cases(scanned)])


def _select_by_rules(groups: list[Group], rules: list[Rule], scanned: Scan, resample_tilt: bool) -> DicomCase:
    usable = [group for group in groups if _unusable(group) is None]
    notes = {id(group): f"{_NOT_SELECTED}{group.name}: {_unusable(group)}" for group in groups if _unusable(group)}
    if not rules and len(usable) > 1:
        notes |= {id(group): f"{_NOT_SELECTED}{group.name}: one of {len(usable)} volumes" for group in usable}
        problem = Problem(
            f"the study has {len(usable)} candidate volumes: {'; '.join(group.name for group in usable)}",
            "name one with --series, or add series rules to the bundle",
        )
        return _refused_study(groups, notes, problem, scanned)
    for rule in rules or [Rule("the only volume of the study", {})]:
        matching = sorted((group for group in usable if mismatch(rule, group.values) is None), key=_rank)
        if not matching:
            continue
        for group in usable:
            reason = mismatch(rule, group.values) or "matches the rule too, with fewer slices or a higher number"
            notes[id(group)] = f"{_NOT_SELECTED}{group.name}: {reason}"
        notes[id(matching[0])] = f"selected: {matching[0].name}: {rule.name}"
        return _selected(matching[0], groups, notes, scanned, None, resample_tilt)
    for group in usable:
        reasons = "; ".join(f"{rule.name}: {mismatch(rule, group.values)}" for rule in rules)
        notes[id(group)] = f"{_NOT_SELECTED}{group.name}: {reasons}"
    problem = Problem(
        f"none of {plural(len({group.series_uid for group in groups}), 'series', 'series')} matches the rules "
        f"({'; '.join(notes[id(group)].removeprefix(_NOT_SELECTED) for group in groups)})",
        "name one with --series, or correct the rules of the bundle",
    )
    return _refused_study(groups, notes, problem, scanned)


def _select_by_name(
    groups: list[Group], rules: list[Rule], series: str, scanned: Scan, resample_tilt: bool
) -> DicomCase:
    named = sorted((group for group in groups if _is_named(group, series)), key=_rank)
    notes = {id(group): f"{_NOT_SELECTED}{group.name}: another series was requested" for group in groups}
    if len({group.series_uid for group in named}) > 1:
        several = Problem(
            f"{len(named)} series have this name: {'; '.join(group.name for group in named)}", "name one by its UID"
        )
        return _refused_study(groups, notes, several, scanned)
    selected = min(named, key=lambda group: (_unusable(group) is not None, _rank(group)))
    notes[id(selected)] = f"selected: {selected.name}: requested by --series"
    with_modality = [rule for rule in rules if "Modality" in rule.conditions]
    modalities = [Rule(rule.name, {"Modality": rule.conditions["Modality"]}) for rule in with_modality]
    problem: Problem | None = None
    unusable = _unusable(selected)
    if unusable:
        problem = Problem(unusable, "select another series")
    elif modalities and all(mismatch(rule, selected.values) for rule in modalities):
        required = " or ".join(sorted({str(rule.conditions["Modality"]) for rule in modalities}))
        text = f"is of modality {selected.modality or 'unknown'}; the model is for {required}"
        problem = Problem(text, "select another series")
    return _selected(selected, groups, notes, scanned, problem, resample_tilt)


def _is_named(group: Group, series: str) -> bool:
    name = series.strip()
    return name in (group.series_uid, str(group.number)) or name.casefold() == group.description.strip().casefold()


def _unusable(group: Group) -> str | None:
    """Return why a group of slices can never be selected, from its headers; None if it can."""
    if group.modality in _OTHER_MODALITIES:
        return f"is of modality {group.modality}, not an image of a patient"
    if group.samples != 1:
        return f"is in color ({group.samples} samples per pixel)"
    if group.photometric and not group.photometric.startswith("MONOCHROME"):
        return "is in color (by a palette)" if "PALETTE" in group.photometric else "is in color"
    if all(plane.position_mm is None or plane.orientation is None for plane in group.planes):
        return "has no position in the patient"
    if "LOCALIZER" in group.image_type:
        return "is a localizer"
    if len(group.planes) == 1:
        return "is a single slice"
    if group.is_concatenated:
        return "is split over several multi-frame files (a concatenation)"
    return None


def _selected(
    group: Group,
    groups: list[Group],
    notes: Notes,
    scanned: Scan,
    problem: Problem | None,
    resample_tilt: bool,
) -> DicomCase:
    """Return the case of a selected group, with the first problem of its identity, headers, slices and geometry."""
    same_series = [other for other in groups if other.series_uid == group.series_uid]
    problem = problem or problem_of_series(other.identity for other in same_series) or header_problem(group, groups)
    planes, further_notes = group.planes, []
    if problem is None:
        planes, note, problem = without_copies(group)
        further_notes += [note] if note else []
    problem = problem or _problem_of_uids(group, planes)
    spacing, tilt, straighten = (0.0, 0.0, 0.0), 0.0, False
    if problem is None and group.orientation and planes[0].pixel_spacing_mm:
        rows_mm, columns_mm = planes[0].pixel_spacing_mm
        stacked = stack([plane.position_mm or () for plane in planes], group.orientation, (rows_mm, columns_mm))
        spacing, tilt = (columns_mm, rows_mm, stacked.spacing_mm), stacked.tilt_degrees if stacked.is_tilted else 0.0
        planes = [planes[index] for index in stacked.order]
        straighten = resample_tilt and stacked.is_tilted and not group.is_multiframe
        problem = None if straighten else stacked.problem
        if straighten:
            further_notes.append(f"a gantry tilt of {tilt:.1f}° is resampled on a straight grid")
    files = tuple(dict.fromkeys(plane.path for plane in planes))
    damaged = count_damaged_beside(planes, group.study_key, scanned)
    uids = [group.study_uid, group.series_uid, *([planes[0].sop_uid] if group.is_multiframe else [])]
    return DicomCase(
        id=case_id(*uids) if is_valid_uid(group.study_uid) else case_id_of_files(files),
        study_uid=_valid_or_empty(group.study_uid),
        series_uid=_valid_or_empty(group.series_uid),
        files=files,
        location=study_location(files, scanned.root, group.identity.words),
        problem=f"{group.name}: {problem.text}" if problem else None,
        remedy=problem.remedy if problem else "",
        notes=(*(notes[id(other)] for other in groups), *further_notes, *_notes_on_files(groups, damaged, scanned)),
        warnings=signs_of_missing_images(group, len(planes), same_series, damaged),
        modality=group.modality,
        spacing_mm=spacing,
        tilt_degrees=tilt,
        resample_tilt=straighten,
    )


def _refused_study(groups: list[Group], notes: Mapping[int, str], problem: Problem, scanned: Scan) -> DicomCase:
    """Return the case of a study without a selected series; the problem is about all its images."""
    study_uid = groups[0].study_uid
    files = tuple(sorted({plane.path for group in groups for plane in group.planes}))
    words = set().union(*(group.identity.words for group in groups))
    return DicomCase(
        id=case_id(study_uid) if is_valid_uid(study_uid) else case_id_of_files(files),
        study_uid=_valid_or_empty(study_uid),
        study_files=files,
        location=study_location(files, scanned.root, words),
        problem=problem.text,
        remedy=problem.remedy,
        notes=(
            *(notes[id(group)] for group in groups if id(group) in notes),
            *_notes_on_files(groups, 0, scanned),
        ),
    )


def _problem_of_uids(group: Group, planes: list[Plane]) -> Problem | None:
    sop_uids = [plane.sop_uid for plane in (planes[:1] if group.is_multiframe else planes)]
    return problem_of_uids(
        group.study_uid, group.series_uid, group.frame_of_reference_uid, group.identity.sop_class_uids, sop_uids
    )


def _notes_on_files(groups: list[Group], warned_of: int, scanned: Scan) -> list[str]:
    """Return notes on files that are not images, and on damaged files of the study beyond those of a warning."""
    planes = [plane for group in groups for plane in group.planes]
    damaged = count_damaged_beside(planes, groups[0].study_key, scanned) - warned_of
    files = plural(damaged, "damaged DICOM file lies", "damaged DICOM files lie")
    others = scanned.describe_others()
    return [*([f"{files} among the images of the study"] if damaged else []), *([others] if others else [])]


def _valid_or_empty(uid: str) -> str:
    """Return a UID if it is valid, else an empty string: an invalid one may hold anything, including a name."""
    return uid if is_valid_uid(uid) else ""


def _with_unique_ids(cases: list[DicomCase]) -> list[DicomCase]:
    """Return the cases with a number added to repeated identifiers, since damaged files can be equal."""
    seen: Counter[str] = Counter()
    unique = []
    for case in cases:
        seen[case.id] += 1
        unique.append(case if seen[case.id] == 1 else replace(case, id=f"{case.id}-{seen[case.id]}"))
    return unique


def _rank(group: Group) -> tuple[int, bool, int, str]:
    """Return the sorting key of groups that match a rule: most slices first, then the lowest series number."""
    return -len(group.planes), group.number is None, group.number or 0, group.series_uid
