"""Evaluation of predictions against references: two folders of label maps, from any tool."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline.data.integrity import grid_difference
from pipeline.data.labels import NotALabel, count_values, label_values
from pipeline.data.layouts.description import class_names, read_json
from pipeline.data.nifti import read_header, read_nifti
from pipeline.errors import DatasetError
from pipeline.metrics.folders import Pair, Pairing, case_of, pair_files
from pipeline.metrics.panel import evaluate_case
from pipeline.records.metrics import Family, metric_of, names_of
from pipeline.records.table import Score, scores_frame
from pipeline.records.tolerance import Tolerance, ToleranceRequest
from pipeline.system.worker_pool import worker_pool

METRICS = tuple(name for name in names_of() if metric_of(name).family is not Family.CALIBRATION)
"""Metrics of masks. Calibration needs probabilities."""

_WORTH_A_POOL_BYTES = 4 << 20
"""Below this much on disk, starting processes takes longer than they save."""


@dataclass(frozen=True, slots=True)
class EvaluatedCase:
    """Scores of one case, and the label values other than 0 that its two masks hold."""

    case: str
    scores: tuple[Score, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be evaluated: the file concerned, what is wrong with it, and what to do."""

    case: str
    file: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions measured against their references.

    Attributes
    ----------
    cases
        Cases in the order of their references.
    classes
        Label values and names of the foreground.
    tolerance
        Tolerance of surface Dice.
    failures
        Cases that could not be evaluated.
    extra
        Predictions without a reference.
    left_out
        References that were not among the cases to evaluate.
    other_values
        Label values that were found and are not among the classes.
    """

    cases: tuple[EvaluatedCase, ...]
    classes: Mapping[int, str]
    tolerance: Tolerance
    failures: tuple[Failure, ...]
    extra: tuple[Path, ...]
    left_out: tuple[Path, ...]
    other_values: tuple[int, ...]

    def scores(self) -> Iterator[Score]:
        """Yield every metric of every class of every case; a class in neither mask is a correct absence."""
        for case in self.cases:
            present = {score.class_name for score in case.scores}
            for name in self.classes.values():
                if name in present:
                    yield from (score for score in case.scores if score.class_name == name)
                else:
                    yield from self._absence(case.case, name)

    def table(self, loss: str, fold: int | Mapping[str, int] = 0, seed: int = 0) -> pd.DataFrame:
        """Return the scores as the long table of results (`pipeline.records.table`).

        Parameters
        ----------
        loss, seed
            Loss and seed of the training that made the predictions.
        fold
            Fold of the training, or the fold of each case.
        """
        return scores_frame(loss, fold, seed, self.scores())

    def _absence(self, case: str, name: str) -> Iterator[Score]:
        for metric in METRICS:
            tolerance_mm = self.tolerance.of(name) if metric == "nsd" else None
            yield Score(case, name, metric, None, "correct_absence", tolerance_mm)


def evaluate_folders(
    references: Path,
    predictions: Path,
    classes: Mapping[int, str] | None = None,
    tolerance: ToleranceRequest | None = None,
    cases: Iterable[str] | None = None,
    workers: int | None = None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure the predictions of one folder against the references of another, in mm.

    Files are matched by name; two single files are a pair. A case that cannot be evaluated is listed among the
    failures and does not stop the others. Nothing is resampled.

    Parameters
    ----------
    references, predictions
        Folders of label maps (.nii, .nii.gz), or two files.
    classes
        Label values and names of the foreground; None takes them from a dataset.json in or above the folder of the
        references, or else from the values found.
    tolerance
        Tolerances of surface Dice; None takes the default for the resolution of all references in the folder.
    cases
        Cases to evaluate; None evaluates all.
    workers
        Processes; None starts one per core.
    on_case
        Called after each case with the number of cases done and of all.

    Raises
    ------
    DatasetError
        Where a folder cannot be read, or has no reference of one of `cases`.
    ConfigError
        Where the tolerance names a class that is not there.

    Examples
    --------
    >>> from pathlib import Path
    >>> evaluate_folders(Path("labelsTr"), Path("predictions")).table("dice_ce")  # doctest: +SKIP
    """
    pairing = pair_files(references, predictions)
    asked = tolerance or ToleranceRequest()
    named = _classes_beside(references) if classes is None else dict(classes)
    if named is not None:
        asked.check(named.values())
    # Where no reference can be read, no case is measured, so that the spacing does not matter.
    resolved = asked.resolve(list(_spacings(pairing)) or [(1.0, 1.0, 1.0)])
    pairing, left_out = (pairing, ()) if cases is None else _only(pairing, set(cases), references)
    done: list[EvaluatedCase] = []
    failures = [_missing(path, pairing.searched) for path in pairing.missing]
    for index, result in enumerate(_each(pairing.pairs, _PairEvaluation(named, resolved), workers), start=1):
        if isinstance(result, EvaluatedCase):
            done.append(result)
        else:
            failures.append(result)
        on_case(index, len(pairing.pairs))
    found = sorted({value for case in done for value in case.values})
    if named is None:
        named = {value: str(value) for value in found}
        asked.check(named.values() if done else asked.by_class)
    others = tuple(value for value in found if value not in named)
    return Evaluation(tuple(done), named, resolved, tuple(failures), pairing.extra, left_out, others)


@dataclass(frozen=True, slots=True)
class _PairEvaluation:
    """Reads, checks and measures one pair; picklable, for a process of its own."""

    classes: Mapping[int, str] | None
    tolerance: Tolerance

    def __call__(self, pair: Pair) -> EvaluatedCase | Failure:
        maps, headers, values = [], [], set()
        for path in (pair.reference, pair.prediction):
            try:
                file = read_nifti(path)
                if file.header.channels > 1:
                    return Failure(pair.case, str(path), "is 4D, not a label map", "store one class value per voxel")
                stored = label_values(file.voxels, file.header)
                values |= set(count_values(stored))
            except DatasetError as error:
                return Failure(pair.case, str(path), error.problem, error.remedy)
            except NotALabel as error:
                return Failure(pair.case, str(path), str(error), "give label maps: whole numbers, one for each class")
            maps.append(stored.reshape(file.header.grid, order="F"))
            headers.append(file.header)
        difference = grid_difference(headers[1], headers[0])
        if difference:
            problem = f"is not on the grid of its reference {pair.reference.name}: it has {difference}"
            return Failure(pair.case, str(pair.prediction), problem, "resample the prediction to its reference's grid")
        found = tuple(sorted(values - {0}))
        classes = {value: str(value) for value in found} if self.classes is None else self.classes
        scores = evaluate_case(
            pair.case, maps[0], maps[1], headers[0].spacing_mm, classes, tolerance=self.tolerance, metrics=METRICS
        )
        return EvaluatedCase(pair.case, tuple(scores), found)


def _each(pairs: Sequence[Pair], evaluate: _PairEvaluation, workers: int | None) -> Iterator[EvaluatedCase | Failure]:
    """Yield the results in the order of the pairs."""
    size = sum(path.stat().st_size for pair in pairs for path in (pair.reference, pair.prediction) if path.exists())
    workers = min(workers or os.cpu_count() or 1, len(pairs))
    if workers <= 1 or size < _WORTH_A_POOL_BYTES:
        yield from map(evaluate, pairs)
        return
    try:
        with worker_pool(workers) as pool:
            yield from pool.map(evaluate, pairs)
    except BrokenProcessPool:
        raise DatasetError(
            pairs[0].prediction.parent,
            "a worker was killed, most likely out of memory",
            "retry with --workers 1",
        ) from None


def _spacings(pairing: Pairing) -> Iterator[tuple[float, float, float]]:
    """Yield the spacing of every reference that can be read, also of those without a prediction.

    So the default tolerance is that of the dataset, whichever of its folds is evaluated.
    """
    for path in (*(pair.reference for pair in pairing.pairs), *pairing.missing):
        try:
            yield read_header(path).spacing_mm
        except DatasetError:
            continue  # reported when the whole file is read


def _only(pairing: Pairing, cases: set[str], references: Path) -> tuple[Pairing, tuple[Path, ...]]:
    """Return a pairing without other cases, and the references of these."""
    known = {pair.case: pair.reference for pair in pairing.pairs}
    known |= {case_of(path.name) or path.stem: path for path in pairing.missing}
    unknown = sorted(cases - set(known))
    if unknown:
        raise DatasetError(
            references,
            f"has no reference of {len(unknown)} of {len(cases)} cases, e.g. {unknown[0]}",
            "give the folder of all labels",
        )
    kept = replace(
        pairing,
        pairs=tuple(pair for pair in pairing.pairs if pair.case in cases),
        missing=tuple(path for path in pairing.missing if case_of(path.name) in cases),
    )
    return kept, tuple(path for case, path in known.items() if case not in cases)


def _missing(reference: Path, predictions: Path) -> Failure:
    case = case_of(reference.name) or reference.stem
    file = predictions / reference.name
    return Failure(case, str(file), "does not exist", "predict this case, or remove its reference")


def _classes_beside(references: Path) -> dict[int, str] | None:
    """Return the foreground of a dataset.json in or above the folder of the references, None without one."""
    folder = references if references.is_dir() else references.parent
    for path in (folder / "dataset.json", folder.resolve().parent / "dataset.json"):
        if path.is_file():
            content = read_json(path)
            labels = content.get("labels") if isinstance(content, dict) else None
            return {value: label for value, label in class_names(labels, path).items() if value}
    return None
