"""Signs that images of a series are missing, and the studies of which only damaged files are present."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.inference.dicom.case import DicomCase, case_id, case_id_of_files
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.plural import plural
from pipeline.inference.dicom.scan import Damaged, Scan
from pipeline.inference.dicom.study_location import study_location


def signs_of_missing_images(group: Group, used: int, same_series: Sequence[Group], damaged: int) -> tuple[str, ...]:
    """Return a warning for each sign that a series is incomplete.

    Parameters
    ----------
    group
        The selected group of slices.
    used
        Number of images of the group that make up the volume, without copies.
    same_series
        The groups of the same series, including `group`.
    damaged
        Number of damaged files beside the images (see `count_damaged_beside`).
    """
    warnings = []
    others = [other for other in same_series if other is not group]
    present = used + sum(_count_images(other) for other in others)
    if group.images_in_acquisition and group.images_in_acquisition > present:
        warnings.append(f"{group.images_in_acquisition} images expected, {present} here: the series is not complete")
    elsewhere = sum(
        _count_images(other) for other in others if other.frame_of_reference_uid != group.frame_of_reference_uid
    )
    if elsewhere:
        images = plural(elsewhere, "image of the series lies", "images of the series lie")
        warnings.append(f"{images} in another frame of reference and {'is' if elsewhere == 1 else 'are'} left out")
    if damaged:
        files = plural(damaged, "damaged DICOM file lies", "damaged DICOM files lie")
        warnings.append(f"{files} beside the images and may belong to the series")
    return tuple(warnings)


def count_damaged_beside(planes: Iterable[Plane], study_key: str, scan: Scan) -> int:
    """Return how many damaged files may belong to a study.

    They name the study, or they lie in a folder of its `planes` that holds images of no other study.
    """
    if not scan.damaged:
        return 0
    folders = {plane.path.parent for plane in planes}
    return sum(
        file.study_uid == study_key
        if file.study_uid
        else file.path.parent in folders and scan.studies_of_folders[file.path.parent] == {study_key}
        for file in scan.damaged
    )


def damaged_cases(scan: Scan) -> list[DicomCase]:
    """Return a failed case for the damaged files of each study, or of each folder, that belong to no readable study.

    If damaged files lie among the images of several studies, any of these studies may lack them.
    """
    known = {group.study_key for group in scan.groups}
    studies = scan.studies_of_folders
    by_study: dict[tuple[str, Path | None], list[Damaged]] = {}
    for file in scan.damaged:
        if file.study_uid and file.study_uid not in known:
            by_study.setdefault((file.study_uid, None), []).append(file)
        elif not file.study_uid and len(studies.get(file.path.parent, ())) != 1:
            by_study.setdefault(("", file.path.parent), []).append(file)
    # The header of a damaged file cannot be searched for names: those of all other patients are hidden instead.
    words = set().union(*(group.identity.words for group in scan.groups))
    cases = []
    for (study_uid, folder), damaged in by_study.items():
        files = tuple(file.path for file in damaged)
        neighbors = len(studies.get(folder, ())) if folder else 0
        among = f"; the images of {neighbors} studies beside them may be incomplete" if neighbors else ""
        headers = plural(len(files), "DICOM file has a damaged header", "DICOM files have damaged headers")
        cases.append(
            DicomCase(
                id=case_id(study_uid) if study_uid else case_id_of_files(files),
                study_uid=study_uid,
                study_files=files,
                location=study_location(files, scan.root, words),
                problem=f"{headers}{among}",
                remedy="send the study again, or remove the files",
            )
        )
    return cases


def _count_images(group: Group) -> int:
    return len({plane.sop_uid for plane in group.planes}) if not group.is_multiframe else len(group.planes)
