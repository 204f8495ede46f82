"""Folds of a cross-validation that never split a patient and are alike in what they hold."""

from dataclasses import dataclass

from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.errors import ConfigError, DatasetError
from pipeline.randomness import stream


@dataclass(frozen=True, slots=True)
class Fold:
    """The cases that models of this fold never see in training, and their patients."""

    index: int
    cases: tuple[str, ...]
    patients: tuple[str, ...]


def make_folds(dataset: Dataset, fingerprint: Fingerprint, folds: int, seed: int) -> tuple[Fold, ...]:
    """Return `folds` folds, stratified by which classes a patient has and by how much foreground.

    Patients are sorted by both and dealt in blocks of `folds`, each block in a random order. Folds given by the user
    (`Case.fold`) are honoured instead. The order of cases in the dataset does not matter.

    Raises
    ------
    ConfigError
        Where there are fewer patients than folds.
    DatasetError
        Where folds are given for some cases only, split a patient, or leave all cases in one fold.
    """
    patients: dict[str, list[str]] = {}
    for case in dataset.cases:
        patients.setdefault(case.patient, []).append(case.id)
    given = _given(dataset)
    if given is None:
        if len(patients) < folds:
            raise ConfigError(
                f"--folds {folds}",
                f"but there are only {len(patients)} patients",
                f"give --folds {max(2, len(patients))} or fewer",
            )
        given = _dealt(dataset, fingerprint, patients, folds, seed)
    return tuple(
        Fold(
            index,
            tuple(case.id for case in dataset.cases if given[case.patient] == index),
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
    if len(set(found.values())) < 2:
        raise DatasetError(dataset.root, "all cases are in one fold", "give two folds or more")
    return found


def _dealt(
    dataset: Dataset, fingerprint: Fingerprint, patients: dict[str, list[str]], folds: int, seed: int
) -> dict[str, int]:
    """Return a stratified fold for each patient."""
    scans = {scan.case: scan for scan in fingerprint.scans}

    def key(patient: str) -> tuple[tuple[int, ...], float, str]:
        present: set[int] = set()
        volume = 0.0
        for case in patients[patient]:
            for value, found in scans[case].classes.items():
                if value != 0 and found.voxels:
                    present.add(value)
                    volume += found.volume_ml
        return tuple(sorted(present)), volume, patient

    order = sorted(patients, key=key)
    random = stream(seed, "folds", folds)
    dealt: dict[str, int] = {}
    for start in range(0, len(order), folds):
        block = order[start : start + folds]
        for patient, fold in zip(block, random.permutation(folds), strict=False):
            dealt[patient] = int(fold)
    return dealt
