"""The check that images belong to one patient and have valid, unique UIDs. Values are counted, never repeated."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from pipeline.inference.dicom.geometry import Problem

_LONGEST_UID = 64
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_NAMING = ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs")
_SHORTEST_WORD = 3

TAGS = (*_NAMING, "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""Keywords of the header that `Identity` reads."""


@dataclass(slots=True)
class Identity:
    """The values that identify the patient, over all images of a group; none of them is ever printed.

    Parameters
    ----------
    patient_ids, birth_dates
        Distinct values of PatientID and PatientBirthDate; an absent value is an empty string.
    sop_class_uids
        Distinct values of SOPClassUID.
    words
        Words of three or more characters that name the patient, in lower case: parts of names, IDs and birth dates.
    """

    patient_ids: set[str] = field(default_factory=set, repr=False)
    birth_dates: set[str] = field(default_factory=set, repr=False)
    sop_class_uids: set[str] = field(default_factory=set, repr=False)
    words: set[str] = field(default_factory=set, repr=False)

    def add(self, header: Dataset) -> None:
        """Add the values of one image."""
        self.patient_ids.add(_text(header, "PatientID"))
        self.birth_dates.add(_text(header, "PatientBirthDate"))
        self.sop_class_uids.add(_text(header, "SOPClassUID"))
        for keyword in _NAMING:
            parts = re.split(r"[\W_]+", _text(header, keyword).casefold())
            self.words |= {part for part in (*parts, "".join(parts)) if len(part) >= _SHORTEST_WORD}


def is_valid_uid(text: str) -> bool:
    """Return whether a text is a UID by PS3.5, 9.1: up to 64 characters, numbers without leading zeros between dots.

    Examples
    --------
    >>> is_valid_uid("1.2.840.10008"), is_valid_uid("1.02"), is_valid_uid("")
    (True, False, False)
    """
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def problem_of_study(identities: Iterable[Identity]) -> Problem | None:
    """Return the problem of a study whose images belong to several patients; None if they do not.

    A series without PatientID or birth date beside others that have them is not a contradiction.
    """
    every = list(identities)
    for keyword, values in (
        ("PatientID", set().union(*(one.patient_ids for one in every))),
        ("PatientBirthDate", set().union(*(one.birth_dates for one in every))),
    ):
        if len(values - {""}) > 1:
            return _several_patients("the study", keyword, len(values - {""}), is_empty_too="" in values)
    return None


def problem_of_series(identities: Iterable[Identity]) -> Problem | None:
    """Return the problem of a series with several values of PatientID or birth date; an absent value counts as one."""
    every = list(identities)
    for keyword, values in (
        ("PatientID", set().union(*(one.patient_ids for one in every))),
        ("PatientBirthDate", set().union(*(one.birth_dates for one in every))),
    ):
        if len(values) > 1:
            return _several_patients("the series", keyword, len(values - {""}), is_empty_too="" in values)
    return None


def problem_of_uids(
    study_uid: str, series_uid: str, frame_of_reference_uid: str, sop_class_uids: Iterable[str], sop_uids: Sequence[str]
) -> Problem | None:
    """Return the problem of UIDs that are empty, invalid or, for SOP Instance UIDs, shared; None if there is none.

    Parameters
    ----------
    study_uid, series_uid, frame_of_reference_uid
        UIDs of the group; an empty frame of reference is left to another check.
    sop_class_uids
        Distinct SOP Class UIDs of the group.
    sop_uids
        SOP Instance UID of each file.
    """
    remedy = "export the study again with valid UIDs"
    for name, uid in (("Study Instance UID", study_uid), ("Series Instance UID", series_uid)):
        if not is_valid_uid(uid):
            return Problem(f"its {name} is {'invalid' if uid else 'empty'}", remedy)
    if frame_of_reference_uid and not is_valid_uid(frame_of_reference_uid):
        return Problem("the UID of its frame of reference is invalid", remedy)
    if not all(map(is_valid_uid, sop_class_uids)):
        return Problem("the SOP Class UID of some images is empty or invalid", remedy)
    total = len(sop_uids)
    empty = sum(not uid for uid in sop_uids)
    if empty:
        return Problem(f"{empty} of {total} images have no SOP Instance UID", remedy)
    invalid = sum(not is_valid_uid(uid) for uid in sop_uids)
    if invalid:
        return Problem(f"{invalid} of {total} images have an invalid SOP Instance UID", remedy)
    shared = [times for times in Counter(sop_uids).values() if times > 1]
    if shared:
        uids = "one SOP Instance UID" if len(shared) == 1 else f"{len(shared)} SOP Instance UIDs"
        return Problem(f"{sum(shared)} of {total} images share {uids}", remedy)
    return None


def _several_patients(subject: str, keyword: str, count: int, *, is_empty_too: bool) -> Problem:
    values = f"{count} different values of {keyword}" if count > 1 else f"a {keyword}"
    empty = " and images without one" if is_empty_too else ""
    return Problem(
        f"{subject} holds {values}{empty}: it may mix several patients",
        "check the identity of the images and send each patient as a separate study",
    )


def _text(header: Dataset, keyword: str) -> str:
    """Return a value as text: its raw bytes if it cannot be decoded, an empty string if it is absent."""
    try:
        value = header.get(keyword)
    except (ValueError, TypeError, LookupError, AttributeError):
        return repr(getattr(header.get_item(keyword), "value", ""))
    return "" if value is None else str(value).strip(" \0")
