"""Signs that images of a series are missing, and the studies of which nothing but damaged files is there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.inference.dicom.case import DicomCase, case_id, case_id_of_files
from pipeline.inference.dicom.groups import Group, Plane
from pipeline.inference.dicom.scan import Damaged, Scan
from pipeline.inference.dicom.stacking import count
from pipeline.inference.dicom.study_location import place_of


def signs_of_missing_images(group: Group, taken: int, kin: Sequence[Group], damaged: int) -> tuple[str, ...]:
    """Return a warning for each sign that a series is not complete.

    Parameters
    ----------
    taken
        Images of the group that make up the volume, copies left out.
    kin
        The groups of the same series, `group` among them.
    damaged
        Damaged files that lie beside the images (see `beside`).
    """
    warnings = []
    others = [one for one in kin if one is not group]
    here = taken + sum(_images(one) for one in others)
    if group.images_in_acquisition and group.images_in_acquisition > here:
        warnings.append(f"{group.images_in_acquisition} images expected, {here} here: the series is not complete")
    elsewhere = sum(_images(one) for one in others if one.frame_of_reference_uid != group.frame_of_reference_uid)
    if elsewhere:
        images = count(elsewhere, "image of the series lies", "images of the series lie")
        warnings.append(f"{images} in another frame of reference and {_is_are(elsewhere)} left out")
    if damaged:
        files = count(damaged, "damaged DICOM file lies", "damaged DICOM files lie")
        warnings.append(f"{files} beside the images and may belong to the series")
    return tuple(warnings)


def beside(planes: Iterable[Plane], study_key: str, found: Scan) -> int:
    """Return how many damaged files belong to a study, or lie in a folder of its `planes` where no other study lies."""
    if not found.damaged:
        return 0
    folders = {plane.path.parent for plane in planes}
    return sum(
        one.study_uid == study_key
        if one.study_uid
        else one.path.parent in folders and found.studies_of_folders[one.path.parent] == {study_key}
        for one in found.damaged
    )


def damaged_cases(found: Scan) -> list[DicomCase]:
    """Return a failed case for the damaged files of each study, or of each folder, that belong to no study at hand.

    Where damaged files lie among the images of several studies, any of these may lack them.
    """
    known = {group.study_key for group in found.groups}
    studies = found.studies_of_folders
    by_study: dict[tuple[str, Path | None], list[Damaged]] = {}
    for one in found.damaged:
        if one.study_uid and one.study_uid not in known:
            by_study.setdefault((one.study_uid, None), []).append(one)
        elif not one.study_uid and len(studies.get(one.path.parent, ())) != 1:
            by_study.setdefault(("", one.path.parent), []).append(one)
    words = set().union(*(group.identity.words for group in found.groups))
    cases = []
    for (study_uid, folder), damaged in by_study.items():
        files = tuple(one.path for one in damaged)
        neighbors = len(studies.get(folder, ())) if folder else 0
        among = f"; the images of {neighbors} studies beside them may be incomplete" if neighbors else ""
        cases.append(
            DicomCase(
                id=case_id(study_uid) if study_uid else case_id_of_files(files),
                study_uid=study_uid,
                study_files=files,
                place=place_of(files, found.root, words),
                problem=f"{count(len(files), 'DICOM file has a damaged header', 'DICOM files have damaged headers')}"
                f"{among}",
                remedy="send the study again, or take the files away",
            )
        )
    return cases


def _images(group: Group) -> int:
    return len({plane.sop_uid for plane in group.planes}) if not group.is_multiframe else len(group.planes)


def _is_are(number: int) -> str:
    return "is" if number == 1 else "are"
