"""All metrics of nnU-Net's masks: computed in parallel, and stored, so that unchanged masks are not measured again."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.annotation import Annotation
from pipeline.data.nifti import read_header
from pipeline.errors import DatasetError, RecordError
from pipeline.metrics.case_evaluation import METRICS, EvaluatedCase, Failure, PairEvaluation
from pipeline.metrics.evaluation import MINIMUM_POOL_BYTES
from pipeline.metrics.file_pairs import FilePair, pair_files
from pipeline.records.model import RecordModel
from pipeline.records.table import Score
from pipeline.records.tolerance import ToleranceRequest
from pipeline.system.files import file_states, write_json
from pipeline.system.worker_pool import map_in_processes
from pipeline.version import __version__

SAVED_EVERY = 64
"""Newly measured cases after which the stored scores are written, so that a stop loses few."""

MINIMUM_POOL_CASES = 64
"""Number of cases below which small files are read sooner than processes start."""

_REMEDY = "give the masks (nnUNetv2_train with --val writes them), or leave --references out"


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are measured.

    Attributes
    ----------
    references
        Folder of the references. Without it, those of nnU-Net are used if they and all masks are there.
    store
        File of the scores; None stores nothing.
    workers
        Processes; None starts one for each core.
    on_case
        Called after each measured case with the number done and that of all.
    """

    references: Path | None = None
    store: Path | None = None
    workers: int | None = None
    on_case: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Masks of one fold with its cases, the label values of each class or region by name, and of ignored voxels."""

    folder: Path
    cases: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    ignore_label: int | None = None

    @property
    def classes(self) -> dict[int, str]:
        """Names of the classes by label value."""
        return {values[0]: name for name, values in self.labels.items() if len(values) == 1}

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Label values of the regions by name."""
        return {name: values for name, values in self.labels.items() if len(values) > 1}


class _CaseScores(RecordModel):
    """Stored scores of one case: (class, metric, value, state, tolerance in mm), and a hash of all they depend on."""

    fingerprint: str
    scores: tuple[tuple[str, str, float | None, str, float | None], ...]


class _ScoreFile(RecordModel):
    cases: dict[str, _CaseScores]


@dataclass(slots=True)
class ScoreStore:
    """Scores of cases by the path of the mask; a file that is missing, cut short or foreign holds none."""

    path: Path | None
    known: dict[str, _CaseScores] = field(default_factory=dict)
    unsaved: int = 0

    @classmethod
    def read(cls, path: Path | None) -> "ScoreStore":
        """Return the stored scores."""
        if path is None:
            return cls(path)
        try:
            return cls(path, dict(_ScoreFile.parse(path.read_bytes(), path, "").cases))
        except (OSError, RecordError):
            return cls(path)

    def get(self, pair: FilePair, fingerprint: str) -> tuple[Score, ...] | None:
        """Return the scores of a case if nothing that they depend on has changed."""
        found = self.known.get(str(pair.prediction.resolve()))
        if found is None or found.fingerprint != fingerprint:
            return None
        return tuple(Score(pair.case, *values) for values in found.scores)

    def put(self, pair: FilePair, fingerprint: str, scores: Iterable[Score]) -> None:
        """Store the scores of a case."""
        rows = tuple((one.class_name, one.metric, one.value, str(one.state), one.tolerance_mm) for one in scores)
        self.known[str(pair.prediction.resolve())] = _CaseScores(fingerprint=fingerprint, scores=rows)
        self.unsaved += 1
        if self.unsaved >= SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Write the scores if there are new ones, whole or not at all."""
        if self.path is not None and self.unsaved:
            write_json(self.path, _ScoreFile(cases=self.known).to_json())
        self.unsaved = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """One case to measure, and the hash of all that its scores depend on."""

    pair: FilePair
    evaluation: PairEvaluation
    fingerprint: str

    def __call__(self) -> EvaluatedCase | Failure:
        return self.evaluation(self.pair)


def measure_masks(
    folders: Sequence[MaskFolder], references: Path, options: MaskOptions
) -> list[tuple[Score, ...] | RecordError]:
    """Return the scores of each folder, or the first problem that prevents its evaluation.

    Scores are read from the store where size and time of mask and reference, classes, tolerance and version are
    unchanged.

    Parameters
    ----------
    folders
        Masks of each fold.
    references
        Folder of label maps, matched by name.
    options
        Store, processes and progress.

    Raises
    ------
    RecordError
        If a process was killed.
    """
    store = ScoreStore.read(options.store)
    planned = _planned(folders, references)
    tasks = [task for found in planned if not isinstance(found, RecordError) for task in found]
    scores: dict[Path, tuple[Score, ...] | RecordError] = {}
    for task in tasks:
        if (known := store.get(task.pair, task.fingerprint)) is not None:
            scores[task.pair.prediction] = known
    missing = [task for task in tasks if task.pair.prediction not in scores]
    try:
        for index, result in enumerate(map_in_processes(_run, missing, _workers(missing, options.workers))):
            task = missing[index]
            if isinstance(result, Failure):
                scores[task.pair.prediction] = RecordError(result.file, result.problem, result.remedy)
            else:
                scores[task.pair.prediction] = result.scores
                store.put(task.pair, task.fingerprint, result.scores)
            options.on_case(index + 1, len(missing))
    except BrokenProcessPool:
        problem = "cannot be evaluated: a worker was killed, most likely out of memory"
        raise RecordError(references, problem, "close other programs, or leave --references out") from None
    finally:
        store.save()
    return [found if isinstance(found, RecordError) else _joined([scores[t.pair.prediction] for t in found])
            for found in planned]  # fmt: skip


def _run(task: _Task) -> EvaluatedCase | Failure:
    return task()


def _joined(results: Sequence[tuple[Score, ...] | RecordError]) -> tuple[Score, ...] | RecordError:
    scores: list[Score] = []
    for result in results:
        if isinstance(result, RecordError):
            return result
        scores += result
    return tuple(scores)


def _workers(tasks: Sequence[_Task], asked: int | None) -> int:
    """Return the number of processes; one for a few small files."""
    size = sum(state[1] for task in tasks for state in file_states((task.pair.reference, task.pair.prediction)))
    many = size >= MINIMUM_POOL_BYTES or len(tasks) >= MINIMUM_POOL_CASES
    return min(asked or os.cpu_count() or 1, len(tasks)) if many else 1


def _planned(folders: Sequence[MaskFolder], references: Path) -> list[list[_Task] | RecordError]:
    """Return what has to be measured in each folder, or why it cannot be."""
    found: list[list[FilePair] | RecordError] = []
    spacings: dict[Path, tuple[float, float, float] | None] = {}
    for folder in folders:
        try:
            pairing = pair_files(references, folder.folder)
        except DatasetError as error:
            found.append(RecordError(folder.folder, f"cannot be evaluated ({error})", _REMEDY))
            continue
        for path in (*(pair.reference for pair in pairing.pairs), *pairing.missing):
            if path not in spacings:
                spacings[path] = _spacing_mm(path)
        pair_of = {pair.case: pair for pair in pairing.pairs}
        absent = [case for case in folder.cases if case not in pair_of]
        if absent:
            problem = f"lacks the mask or reference of {len(absent)} cases, e.g. {absent[0]} (references: {references})"
            found.append(RecordError(folder.folder, problem, _REMEDY))
        else:
            found.append([pair_of[case] for case in folder.cases])
    # The default tolerance is that of the whole dataset, whichever folds are there.
    tolerance = ToleranceRequest().resolve([spacing for spacing in spacings.values() if spacing] or [(1.0, 1.0, 1.0)])
    planned: list[list[_Task] | RecordError] = []
    for folder, pairs in zip(folders, found, strict=True):
        if isinstance(pairs, RecordError):
            planned.append(pairs)
        else:
            evaluation = PairEvaluation(folder.classes, tolerance, folder.regions, Annotation(folder.ignore_label))
            planned.append([_Task(pair, evaluation, _fingerprint(pair, evaluation)) for pair in pairs])
    return planned


def _spacing_mm(path: Path) -> tuple[float, float, float] | None:
    try:
        return read_header(path).spacing_mm
    except DatasetError:
        return None  # reported when the whole file is read


def _fingerprint(pair: FilePair, evaluation: PairEvaluation) -> str:
    """Return a hash of all that the scores of a case depend on: files, classes, tolerance, metrics and version."""
    names = [*evaluation.classes.values(), *evaluation.regions] if evaluation.classes is not None else []
    parts = [
        __version__,
        METRICS,
        file_states((pair.reference.resolve(), pair.prediction.resolve())),
        sorted((evaluation.classes or {}).items()),
        sorted((name, list(values)) for name, values in evaluation.regions.items()),
        [(name, evaluation.tolerance.of(name)) for name in names],
    ]
    if not evaluation.annotation.is_complete:
        parts.append(repr(evaluation.annotation))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
