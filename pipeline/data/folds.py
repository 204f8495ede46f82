"""Folds of a cross-validation that never split a patient and are alike in what they hold."""

import math
from dataclasses import dataclass

from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.errors import ConfigError, DatasetError
from pipeline.system.random_streams import stream


@dataclass(frozen=True, slots=True)
class Fold:
    """The cases that models of this fold never see in training, and their patients."""

    index: int
    cases: tuple[str, ...]
    patients: tuple[str, ...]


def make_folds(dataset: Dataset, fingerprint: Fingerprint, folds: int, seed: int) -> tuple[Fold, ...]:
    """Return `folds` folds, stratified by which classes a patient has and by how much foreground.

    Patients are sorted by both and dealt in blocks of `folds`, each block in a random order, so that folds differ by
    one patient at most. Folds given by the user (`Case.fold`) are honoured instead, whatever `folds` is. The order of
    cases in the dataset does not matter: those of a fold are sorted.

    Raises
    ------
    ConfigError
        Where `folds` is below two or above the number of patients.
    DatasetError
        Where folds are given for some cases only, split a patient, leave all cases in one fold, or skip a number.
    """
    patients: dict[str, list[str]] = {}
    for case in dataset.cases:
        patients.setdefault(case.patient, []).append(case.id)
    given = _given(dataset)
    if given is None:
        if folds < 2:
            raise ConfigError(
                f"--folds {folds}", "leaves nothing to train on or to test with", "give --folds 2 or more"
            )
        if len(patients) < 2:
            raise ConfigError(f"--folds {folds}", f"but there is only {len(patients)} patient", "add patients")
        if len(patients) < folds:
            raise ConfigError(
                f"--folds {folds}",
                f"but there are only {len(patients)} patients",
                f"give --folds {len(patients)}" + (" or fewer" if len(patients) > 2 else ""),
            )
        given = _dealt(dataset, fingerprint, patients, folds, seed)
    return tuple(
        Fold(
            index,
            tuple(sorted(case.id for case in dataset.cases if given[case.patient] == index)),
            tuple(sorted(patient for patient in patients if given[patient] == index)),
        )
        for index in sorted(set(given.values()))
    )


def _given(dataset: Dataset) -> dict[str, int] | None:
    """Return the fold of each patient as given by the user, None where none is given."""
    without = [case.id for case in dataset.cases if case.fold is None]
    if len(without) == len(dataset.cases):
        return None
    if without:
        raise DatasetError(
            dataset.root, f"{len(without)} cases have no fold ({without[0]}) while others do", "give all or none a fold"
        )
    found: dict[str, int] = {}
    for case in dataset.cases:
        fold = int(case.fold or 0)
        if found.setdefault(case.patient, fold) != fold:
            raise DatasetError(
                dataset.root,
                f"patient {case.patient} is in folds {found[case.patient]} and {fold}",
                "keep a patient in one fold",
            )
    numbers = sorted(set(found.values()))
    if len(numbers) < 2:
        raise DatasetError(dataset.root, "all cases are in one fold", "give two folds or more")
    if numbers != list(range(len(numbers))):
        raise DatasetError(
            dataset.root, f"its folds are numbered {', '.join(map(str, numbers))}", "number them from 0 without gaps"
        )
    return found


def _dealt(
    dataset: Dataset, fingerprint: Fingerprint, patients: dict[str, list[str]], folds: int, seed: int
) -> dict[str, int]:
    """Return a stratified fold for each patient."""
    scans = {scan.case: scan for scan in fingerprint.scans}

    def key(patient: str) -> tuple[tuple[int, ...], float, str]:
        present: set[int] = set()
        volumes: list[float] = []
        for case in patients[patient]:
            for value, found in scans[case].classes.items():
                if value != 0 and found.voxels:
                    present.add(value)
                    volumes.append(found.volume_ml)
        return tuple(sorted(present)), math.fsum(volumes), patient

    order = sorted(patients, key=key)
    random = stream(seed, "folds", folds)
    dealt: dict[str, int] = {}
    for start in range(0, len(order), folds):
        block = order[start : start + folds]
        for patient, fold in zip(block, random.permutation(folds), strict=False):
            dealt[patient] = int(fold)
    return dealt
