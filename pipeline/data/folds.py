"""Folds of a cross-validation that never split a patient, stratified by classes and volume."""

import math
from dataclasses import dataclass

from pipeline.data.annotation import is_partial
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.errors import ConfigError, DatasetError
from pipeline.system.random_streams import stream


@dataclass(frozen=True, slots=True)
class Fold:
    """Cases on which the models of this fold are evaluated and not trained, and their patients."""

    index: int
    cases: tuple[str, ...]
    patients: tuple[str, ...]


def make_folds(dataset: Dataset, fingerprint: Fingerprint, folds: int, seed: int) -> tuple[Fold, ...]:
    """Return the folds of a dataset, stratified by the classes of a patient and by its volume of foreground.

    Patients are sorted by both and assigned to folds in blocks of `folds`, each block in a random order, so that folds
    differ by at most one patient. Folds that the user gave (`Case.fold`) are used instead, whatever `folds` is.

    If some cases were annotated for some classes only, the classes are spread evenly instead, the rarest first
    (iterative stratification, Sechidis et al. 2011), so that each fold shows every class that enough patients show.

    Parameters
    ----------
    dataset, fingerprint
        Usable cases and their measurements.
    folds
        Number of folds.
    seed
        Seed of the random order.

    Returns
    -------
    tuple of Fold
        Cases and patients of a fold are sorted, so that their order in the dataset does not matter.

    Raises
    ------
    ConfigError
        `folds` is below two or above the number of patients.
    DatasetError
        Folds are given for some cases only, split a patient, put all cases into one fold, or skip a number.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.datalists import read_dataset
    >>> from pipeline.data.phantoms import make_phantoms
    >>> from pipeline.data.scan import scan_dataset
    >>> with TemporaryDirectory() as name:
    ...     folder = make_phantoms(Path(name), cases=5, shape=(24, 24, 20), foreground_fraction=0.05)
    ...     result = scan_dataset(read_dataset(folder), workers=1)
    >>> [len(fold.cases) for fold in make_folds(result.dataset, result.fingerprint, folds=2, seed=0)]
    [2, 3]
    """
    patients: dict[str, list[str]] = {}
    for case in dataset.cases:
        patients.setdefault(case.patient, []).append(case.id)
    fold_of = _given_folds(dataset)
    if fold_of is None:
        if folds < 2:
            raise ConfigError(
                f"--folds {folds}", "leaves no cases for training or for testing", "give --folds 2 or more"
            )
        if len(patients) < 2:
            raise ConfigError(f"--folds {folds}", f"but there is only {len(patients)} patient", "add patients")
        if len(patients) < folds:
            raise ConfigError(
                f"--folds {folds}",
                f"but there are only {len(patients)} patients",
                f"give --folds {len(patients)}" + (" or fewer" if len(patients) > 2 else ""),
            )
        if is_partial(case.annotation for case in dataset.cases):
            fold_of = _folds_with_every_class(fingerprint, patients, folds, seed)
        else:
            fold_of = _stratified_folds(dataset, fingerprint, patients, folds, seed)
    return tuple(
        Fold(
            index,
            tuple(sorted(case.id for case in dataset.cases if fold_of[case.patient] == index)),
            tuple(sorted(patient for patient in patients if fold_of[patient] == index)),
        )
        for index in sorted(set(fold_of.values()))
    )


def _given_folds(dataset: Dataset) -> dict[str, int] | None:
    """Return the fold of each patient as the user gave it; None if the user gave none."""
    without = [case.id for case in dataset.cases if case.fold is None]
    if len(without) == len(dataset.cases):
        return None
    if without:
        raise DatasetError(
            dataset.root,
            f"{len(without)} cases have no fold ({without[0]}) while others do",
            "give a fold to all cases or to none",
        )
    fold_of: dict[str, int] = {}
    for case in dataset.cases:
        fold = int(case.fold or 0)
        if fold_of.setdefault(case.patient, fold) != fold:
            raise DatasetError(
                dataset.root,
                f"patient {case.patient} is in folds {fold_of[case.patient]} and {fold}",
                "keep a patient in one fold",
            )
    numbers = sorted(set(fold_of.values()))
    if len(numbers) < 2:
        raise DatasetError(dataset.root, "all cases are in one fold", "give two folds or more")
    if numbers != list(range(len(numbers))):
        raise DatasetError(
            dataset.root, f"its folds are numbered {', '.join(map(str, numbers))}", "number them from 0 without gaps"
        )
    return fold_of


def _stratified_folds(
    dataset: Dataset, fingerprint: Fingerprint, patients: dict[str, list[str]], folds: int, seed: int
) -> dict[str, int]:
    """Return a stratified fold for each patient."""
    scans = {scan.case: scan for scan in fingerprint.scans}

    def key(patient: str) -> tuple[tuple[int, ...], float, str]:
        present: set[int] = set()
        volumes: list[float] = []
        for case in patients[patient]:
            for value, size in scans[case].classes.items():
                if value != 0 and size.voxels:
                    present.add(value)
                    volumes.append(size.volume_ml)
        # fsum does not depend on the order of the cases.
        return tuple(sorted(present)), math.fsum(volumes), patient

    order = sorted(patients, key=key)
    random = stream(seed, "folds", folds)
    fold_of: dict[str, int] = {}
    for start in range(0, len(order), folds):
        block = order[start : start + folds]
        for patient, fold in zip(block, random.permutation(folds), strict=False):
            fold_of[patient] = int(fold)
    return fold_of


def _folds_with_every_class(
    fingerprint: Fingerprint, patients: dict[str, list[str]], folds: int, seed: int
) -> dict[str, int]:
    """Return a fold for each patient such that every class is spread over all folds, the rarest class first."""
    scans = {scan.case: scan for scan in fingerprint.scans}
    shown = {
        patient: {value for case in cases for value, size in scans[case].classes.items() if value and size.voxels}
        for patient, cases in patients.items()
    }
    random = stream(seed, "folds", folds)
    waiting = [sorted(patients)[int(index)] for index in random.permutation(len(patients))]
    patients_with = {value: sum(value in own for own in shown.values()) for value in set().union(*shown.values())}
    largest = math.ceil(len(patients) / folds)
    fold_of: dict[str, int] = {}

    def assign(patient: str, value: int | None) -> None:
        def crowd(fold: int) -> tuple[bool, int, int]:
            members = [other for other, own in fold_of.items() if own == fold]
            with_class = sum(value in shown[other] for other in members)
            return len(members) >= largest, with_class, len(members)

        fold_of[patient] = min(range(folds), key=crowd)

    for value in sorted(patients_with, key=lambda value: (patients_with[value], value)):
        for patient in waiting:
            if patient not in fold_of and value in shown[patient]:
                assign(patient, value)
    for patient in waiting:
        if patient not in fold_of:
            assign(patient, None)
    return fold_of
