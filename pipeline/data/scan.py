"""A whole dataset checked and measured in one pass, in parallel, with all its problems listed at once."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.data.dataset import Case, Dataset, Problem
from pipeline.data.fingerprint import CaseScan, ClassScan, Fingerprint
from pipeline.data.integrity import CaseResult, check_case
from pipeline.data.labels import MAX_CLASSES
from pipeline.data.nifti import claimed_bytes
from pipeline.errors import DatasetError
from pipeline.system.worker_pool import worker_pool

WORTH_A_POOL_BYTES = 128 << 20
"""Below this, starting processes takes longer than they save (about 0.5 s for each 64 MiB)."""
_COPIES = 3
"""Peak memory of one worker in units of its largest file: stored, inflated, and what is derived from it."""

_ABSENT = ClassScan(0, 0.0, 0, None, None, None)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The usable part of a dataset, its fingerprint, and what is wrong or worth knowing.

    `dataset` has its classes (and, for lists of 4D images, channels) filled in and lacks every case with an error;
    `fingerprint.scans` are those of its cases, in order.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep cases out."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def scan_dataset(
    dataset: Dataset,
    workers: int | None = None,
    on_case: Callable[[], None] | None = None,
    *,
    memory_gib: float = 8.0,
    remembered: Path | None = None,
) -> ScanResult:
    """Check and measure every case of a dataset, reading each file once.

    Parameters
    ----------
    workers
        Processes; by default one a core. Fewer are used where their files would not fit into memory together.
    on_case
        Called after each case, for a progress bar.
    memory_gib
        Budget of all workers together. A file whose header claims more than a third of it is refused unread.
    remembered
        Folder that keeps what was found, by the content of the files; files that are there again are only hashed.

    Raises
    ------
    DatasetError
        Only when a worker dies; everything wrong with the dataset is in `ScanResult.problems`.
    """
    budget = int(memory_gib * 2**30)
    results = []
    for result in _results(dataset, workers or os.cpu_count() or 1, budget, remembered):
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
    return ScanResult(dataset, Fingerprint(scans), tuple(problems))


def _results(dataset: Dataset, workers: int, budget: int, remembered: Path | None) -> Iterator[CaseResult]:
    """Yield the results in the order of the cases; small datasets are not worth starting processes for."""
    limit = budget // _COPIES
    claims = [claimed_bytes(path) for case in dataset.cases for path in case.files]
    sizes = [size for size in claims if size <= limit]
    largest = max(sizes, default=0)
    workers = min(workers, len(dataset.cases), max(1, limit // max(largest, 1)))
    check: Callable[[Case], CaseResult] = partial(check_case, max_bytes=limit)
    if remembered is not None:
        from pipeline.data.scan_cache import remembered_check

        check = partial(remembered_check, max_bytes=limit, folder=remembered)
    if workers <= 1 or sum(sizes) < WORTH_A_POOL_BYTES:
        yield from map(check, dataset.cases)
        return
    chunk = max(1, min(8, len(dataset.cases) // (4 * workers)))
    try:
        with worker_pool(workers) as pool:
            yield from pool.map(check, dataset.cases, chunksize=chunk)
    except BrokenProcessPool:
        raise DatasetError(
            dataset.root, "a process that read it was killed, most likely for memory", "use fewer workers"
        ) from None


def _with_channels(dataset: Dataset, results: Sequence[CaseResult]) -> Dataset:
    """Name the channels of a list's 4D images, which the list itself does not tell."""
    counts = Counter(len(result.scan.channels) for result in results if result.scan is not None)
    if dataset.layout != "list" or len(dataset.channels) != 1 or not counts:
        return dataset
    usual = counts.most_common(1)[0][0]
    if usual == 1:
        return dataset
    return replace(dataset, channels=tuple(f"{dataset.channels[0]} {index}" for index in range(usual)))


def _with_classes(dataset: Dataset, results: Sequence[CaseResult]) -> Dataset:
    """Name the classes of a list that does not, from the values found; more than a network could tell are refused."""
    if dataset.classes:
        return dataset
    values = sorted({value for result in results if result.scan is not None for value in result.scan.classes} - {0})
    if len(values) >= MAX_CLASSES:
        raise DatasetError(
            dataset.root, f"its labels hold {len(values)} different values", "give class labels, or name the classes"
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
    found = result.scan.classes if result.scan is not None else {}
    strange = [value for value in found if value not in classes]
    if strange:
        shown = ", ".join(f"{value} ({found[value].voxels} voxels)" for value in strange[:5])
        yield Problem(
            str(result.case.label),
            result.case.id,
            f"has label values that are no class of the dataset: {shown}{', …' if len(strange) > 5 else ''}; "
            f"classes are {', '.join(map(str, sorted(classes)))}",
            "correct the label, or name the class",
            "error",
        )


def same_images(results: Sequence[CaseResult]) -> list[Problem]:
    """Return a problem for each case whose voxels came before under another name.

    Between patients that is a leak from training to validation: an error, for both cases where their labels differ.
    Within one patient, whom folds never split, it is a note.
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
                        "keep one of them, or give both the same patient" if error else "kept: both are of one patient",
                        "error" if error else "note",
                    ),
                )
    return list(problems.values())


def _whole_dataset(dataset: Dataset, scans: Sequence[CaseScan]) -> Iterator[Problem]:
    """Yield what only all cases together can show."""
    if not scans:
        return
    empty = [
        f"{value} ({name})"
        for value, name in dataset.foreground.items()
        if not any(s.classes[value].voxels for s in scans)
    ]
    if len(empty) == len(dataset.foreground):
        found = "has no voxel of any class in any label"
        yield Problem(str(dataset.root), "", found, "give labels with something to find", "error")
    elif empty:
        found = f"has no voxel of class {', '.join(empty)} in any label"
        yield Problem(str(dataset.root), "", found, "take the class out, or add cases that have it", "note")
