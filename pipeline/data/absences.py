"""Classes that are missing from many labels: absent, or not drawn? And labels of an implausible size.

Nothing in a file tells whether a structure is missing from the patient or from the annotation. Two facts make the
second likely: the class is missing from many cases, and where it is drawn its size is much the same, like that of an
organ. Sizes of lesions differ by orders of magnitude, and lesions are missing from many patients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.data.annotation import Annotation, is_partial
from pipeline.data.dataset import Dataset, Problem
from pipeline.data.fingerprint import CaseScan, Fingerprint

SUSPICIOUS_SHARE = 0.2
"""Share of cases without a class from which its absence is questioned."""

FEWEST_ABSENT = 3
"""Number of cases without a class below which its absence is not questioned."""

LARGEST_SPREAD = 10.0
"""Ratio of the 90th to the 10th percentile of a class's volume above which it is taken for a kind of lesion."""

IMPLAUSIBLE_RATIO = 50.0
"""A label of more than this many times the median of its class is reported."""

FEWEST_MEASURED = 5
"""Number of cases with a class from which their median is trusted."""


@dataclass(frozen=True, slots=True)
class Absence:
    """A class that is missing from many cases.

    Attributes
    ----------
    name
        Name of the class.
    absent, cases
        Cases without a voxel of it, and all cases.
    """

    name: str
    absent: int
    cases: int


def question(absences: Sequence[Absence]) -> str:
    """Return the question about one or more classes that only the user can answer.

    Examples
    --------
    >>> question([Absence("Esophagus", 72, 110), Absence("Larynx", 56, 110)])
    'Esophagus is absent from 72 of 110 cases, Larynx from 56. Absent, or not drawn?'
    """
    first, *others = absences
    rest = "".join(f", {other.name} from {other.absent}" for other in others)
    return f"{first.name} is absent from {first.absent} of {first.cases} cases{rest}. Absent, or not drawn?"


def questionable_absences(dataset: Dataset, scans: Sequence[CaseScan]) -> tuple[Absence, ...]:
    """Return the classes that may not have been drawn in many cases; none if the dataset declares what was.

    A class is questioned if at least a fifth of the cases, and three, lack it, and if its volume in the others differs
    less than tenfold between the 10th and the 90th percentile.

    Parameters
    ----------
    dataset
        Usable cases and classes.
    scans
        Their measurements.
    """
    if is_partial(case.annotation for case in dataset.cases):
        return ()
    found = []
    for value, name in dataset.foreground.items():
        volumes = _volumes_ml(scans, value)
        absent = len(scans) - len(volumes)
        many = absent >= FEWEST_ABSENT and absent >= SUSPICIOUS_SHARE * len(scans)
        if volumes and many:
            low, high = np.quantile(volumes, (0.1, 0.9))
            if high <= LARGEST_SPREAD * low:
                found.append(Absence(name, absent, len(scans)))
    return tuple(found)


def _volumes_ml(scans: Sequence[CaseScan], value: int) -> list[float]:
    """Return the volume of a class in each case that shows it."""
    sizes = (scan.classes.get(value) for scan in scans)
    return [size.volume_ml for size in sizes if size is not None and size.voxels]


def absence_notes(dataset: Dataset, scans: Sequence[CaseScan]) -> Iterator[Problem]:
    """Yield a note for each questionable absence."""
    for absence in questionable_absences(dataset, scans):
        remedy = "List what was drawn in annotated.json, or answer by --absent-means of `whichloss study`"
        yield Problem(str(dataset.root), "", question([absence]), remedy, "note")


def size_notes(dataset: Dataset, scans: Sequence[CaseScan]) -> Iterator[Problem]:
    """Yield a note for each label that is 50 times larger than the median of its class."""
    labels = {case.id: case.label for case in dataset.cases}
    for value, name in dataset.foreground.items():
        volumes = _volumes_ml(scans, value)
        if len(volumes) < FEWEST_MEASURED:
            continue
        median = float(np.median(volumes))
        for scan in scans:
            size = scan.classes.get(value)
            if size is not None and size.volume_ml > IMPLAUSIBLE_RATIO * median:
                problem = (
                    f"has {size.volume_ml:.3g} mL of {name}, {size.volume_ml / median:.0f} times the median of "
                    f"{median:.3g} mL"
                )
                yield Problem(str(labels.get(scan.case)), scan.case, problem, "check the label", "note")


def with_absent_classes_unknown(dataset: Dataset, fingerprint: Fingerprint) -> Dataset:
    """Return a dataset in which a class without a voxel in a case was not annotated there.

    Parameters
    ----------
    dataset, fingerprint
        Usable cases and their measurements.
    """
    present = {
        scan.case: tuple(value for value in dataset.foreground if scan.classes[value].voxels)
        for scan in fingerprint.scans
    }
    every = tuple(dataset.foreground)
    cases = tuple(
        case
        if present[case.id] == every
        else replace(case, annotation=Annotation(case.annotation.ignore, present[case.id]))
        for case in dataset.cases
    )
    return replace(dataset, cases=cases)
