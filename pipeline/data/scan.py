"""Scan of a dataset: all cases are checked and measured in one pass, in parallel; all problems are listed at once."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.data.absences import absence_notes, size_notes
from pipeline.data.dataset import Case, Dataset, Problem
from pipeline.data.fingerprint import CaseScan, ClassScan, Fingerprint
from pipeline.data.integrity import CaseResult, check_case
from pipeline.data.labels import MAX_CLASSES
from pipeline.data.nifti import claimed_bytes
from pipeline.errors import DatasetError
from pipeline.system.worker_pool import map_in_processes

MINIMUM_POOL_BYTES = 128 << 20
"""Uncompressed size of all files below which starting processes takes longer than they save (0.5 s per 64 MiB)."""

_COPIES = 3
"""Peak memory of one worker in units of its largest file: stored bytes, uncompressed bytes, and derived arrays."""

_ABSENT = ClassScan(0, 0.0, 0, None, None, None)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Result of the scan of a dataset.

    Attributes
    ----------
    dataset
        The dataset without the cases that have an error, with its classes (and, for lists of 4D images, its channels).
    fingerprint
        Measurements of these cases, in the same order.
    problems
        Errors and notes of all cases.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems because of which cases cannot be used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def scan_dataset(
    dataset: Dataset,
    workers: int | None = None,
    on_case: Callable[[], None] | None = None,
    *,
    memory_gib: float = 8.0,
    cache_folder: Path | None = None,
) -> ScanResult:
    """Check and measure every case of a dataset; each file is read once.

    Parameters
    ----------
    dataset
        The dataset as it was read (`pipeline.data.datalists.read_dataset`).
    workers
        Number of processes; by default one per core. Fewer are started if their files would not fit into memory
        together.
    on_case
        Called after each case, for a progress bar.
    memory_gib
        Memory of all workers together. A file whose header claims more than a third of it is refused without being
        read.
    cache_folder
        Folder of cached results (`pipeline.data.scan_cache`); files with a cached result are only hashed.

    Raises
    ------
    DatasetError
        A worker was killed, or labels without named classes have too many values. All other problems of the dataset are
        in `ScanResult.problems`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.datalists import read_dataset
    >>> from pipeline.data.phantoms import make_phantoms
    >>> with TemporaryDirectory() as name:
    ...     folder = make_phantoms(Path(name), cases=2, shape=(24, 24, 20), foreground_fraction=0.05)
    ...     (folder / "imagesTr" / "phantom_001.nii.gz").write_bytes(b"")
    ...     result = scan_dataset(read_dataset(folder), workers=1)
    0
    >>> [case.id for case in result.dataset.cases], [error.problem for error in result.errors]
    (['phantom_000'], ['is empty (0 bytes)'])
    """
    budget = int(memory_gib * 2**30)
    results = []
    for result in _results(dataset, workers or os.cpu_count() or 1, budget, cache_folder):
        results.append(result)
        if on_case is not None:
            on_case()

    dataset = _with_channels(dataset, results)
    dataset = _with_classes(dataset, results)
    by_case = {
        result.case.id: [
            *result.problems,
            *_wrong_channels(result, dataset.channels),
            *_unexpected_values(result, dataset.classes),
        ]
        for result in results
    }
    for problem in same_images(results):
        by_case[problem.case].append(problem)
    usable = [
        result
        for result in results
        if result.scan is not None and not any(problem.severity == "error" for problem in by_case[result.case.id])
    ]
    scans = tuple(_with_absent_classes(result.scan, dataset.classes) for result in usable if result.scan is not None)
    problems = [problem for result in results for problem in by_case[result.case.id]]
    problems += _whole_dataset(dataset, scans)
    dataset = replace(dataset, cases=tuple(result.case for result in usable))
    problems += [*absence_notes(dataset, scans), *size_notes(dataset, scans)]
    return ScanResult(dataset, Fingerprint(scans), tuple(problems))


def _results(dataset: Dataset, workers: int, budget: int, cache_folder: Path | None) -> Iterator[CaseResult]:
    """Yield the results in the order of the cases."""
    limit = budget // _COPIES
    claims = [claimed_bytes(path) for case in dataset.cases for path in case.files]
    sizes = [size for size in claims if size <= limit]
    largest = max(sizes, default=0)
    workers = min(workers, len(dataset.cases), max(1, limit // max(largest, 1)))
    check: Callable[[Case], CaseResult] = partial(check_case, max_bytes=limit)
    if cache_folder is not None:
        from pipeline.data.scan_cache import check_case_cached

        check = partial(check_case_cached, max_bytes=limit, cache_folder=cache_folder)
    if sum(sizes) < MINIMUM_POOL_BYTES:
        workers = 1
    chunk_size = max(1, min(8, len(dataset.cases) // (4 * max(workers, 1))))
    try:
        yield from map_in_processes(check, dataset.cases, workers, chunk_size)
    except BrokenProcessPool:
        problem = "a worker was killed while reading it, most likely out of memory"
        raise DatasetError(dataset.root, problem, "use fewer workers") from None


def _with_channels(dataset: Dataset, results: Sequence[CaseResult]) -> Dataset:
    """Name the channels of 4D images in a list, which does not name them itself."""
    counts = Counter(len(result.scan.channels) for result in results if result.scan is not None)
    if dataset.layout != "list" or len(dataset.channels) != 1 or not counts:
        return dataset
    usual = counts.most_common(1)[0][0]
    if usual == 1:
        return dataset
    return replace(dataset, channels=tuple(f"{dataset.channels[0]} {index}" for index in range(usual)))


def _with_classes(dataset: Dataset, results: Sequence[CaseResult]) -> Dataset:
    """Name the classes of a dataset that does not name them, from the values in its labels."""
    if dataset.classes:
        return dataset
    values = sorted({value for result in results if result.scan is not None for value in result.scan.classes} - {0})
    if len(values) >= MAX_CLASSES:
        raise DatasetError(
            dataset.root,
            f"its labels hold {len(values)} different values",
            "give labels with fewer values, or name the classes",
        )
    return replace(dataset, classes={0: "background"} | {value: f"class {value}" for value in values})


def _with_absent_classes(scan: CaseScan, classes: Mapping[int, str]) -> CaseScan:
    return replace(scan, classes={value: scan.classes.get(value, _ABSENT) for value in sorted(classes)})


def _wrong_channels(result: CaseResult, channels: Sequence[str]) -> Iterator[Problem]:
    if result.scan is not None and len(result.scan.channels) != len(channels):
        yield Problem(
            str(result.case.images[0]),
            result.case.id,
            f"has {len(result.scan.channels)} channel(s) where the dataset has {len(channels)} ({', '.join(channels)})",
            "give every channel, or correct the names of channels",
            "error",
        )


def _unexpected_values(result: CaseResult, classes: Mapping[int, str]) -> Iterator[Problem]:
    sizes = result.scan.classes if result.scan is not None else {}
    unknown = [value for value in sizes if value not in classes]
    if unknown:
        shown = ", ".join(f"{value} ({sizes[value].voxels} voxels)" for value in unknown[:5])
        yield Problem(
            str(result.case.label),
            result.case.id,
            f"has label values that are not among the classes of the dataset: {shown}"
            f"{', …' if len(unknown) > 5 else ''}; classes are {', '.join(map(str, sorted(classes)))}",
            "correct the label, or name the class",
            "error",
        )


def same_images(results: Sequence[CaseResult]) -> list[Problem]:
    """Return a problem for each case that has the same voxels as an earlier case.

    Between patients this is an error, since it leaks training data into the validation; if the labels differ, it is an
    error of both cases. Within one patient it is a note, since folds never split a patient.
    """
    first: dict[str, CaseResult] = {}
    problems: dict[tuple[str, str], Problem] = {}
    for result in results:
        for path, image_hash in zip(result.case.images, result.image_hashes, strict=True):
            if not image_hash:
                continue
            earlier = first.setdefault(image_hash, result)
            if earlier.case.id == result.case.id:
                continue
            labels_differ = earlier.label_hash != result.label_hash
            error = earlier.case.patient != result.case.patient
            pairs = [(result, earlier)] + ([(earlier, result)] if labels_differ and error else [])
            for one, other in pairs:
                problems.setdefault(
                    (one.case.id, other.case.id),
                    Problem(
                        str(path if one is result else one.case.images[0]),
                        one.case.id,
                        f"has the same voxels as case {other.case.id}"
                        + (", with another label" if labels_differ else ""),
                        "keep one of them, or give both the same patient"
                        if error
                        else "used, since both are of one patient",
                        "error" if error else "note",
                    ),
                )
    return list(problems.values())


def _whole_dataset(dataset: Dataset, scans: Sequence[CaseScan]) -> Iterator[Problem]:
    """Yield problems of the dataset as a whole: classes without a voxel."""
    if not scans:
        return
    empty = [
        f"{value} ({name})"
        for value, name in dataset.foreground.items()
        if not any(s.classes[value].voxels for s in scans)
    ]
    if len(empty) == len(dataset.foreground):
        problem = "has no voxel of any class in any label"
        yield Problem(str(dataset.root), "", problem, "give labels with at least one structure", "error")
    elif empty:
        problem = f"has no voxel of class {', '.join(empty)} in any label"
        yield Problem(str(dataset.root), "", problem, "remove the class, or add cases that have it", "note")
