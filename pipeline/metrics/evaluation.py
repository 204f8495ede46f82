"""Evaluation of predictions against references: two folders of label maps, from any tool."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline.data.annotation import COMPLETE, Annotation
from pipeline.data.layouts.description import class_names, ignore_value, read_json
from pipeline.data.layouts.naming import stem
from pipeline.data.nifti import read_header
from pipeline.errors import DatasetError
from pipeline.metrics.case_evaluation import METRICS, EvaluatedCase, Failure, PairEvaluation
from pipeline.metrics.file_pairs import FilePair, Pairing, pair_files
from pipeline.records.states import State
from pipeline.records.table import Score, scores_frame
from pipeline.records.tolerance import Tolerance, ToleranceRequest
from pipeline.system.worker_pool import map_in_processes

MINIMUM_POOL_BYTES = 4 << 20
"""Size of all files on disk below which starting processes takes longer than they save."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions measured against their references.

    Attributes
    ----------
    references, predictions
        Folders or files that were compared.
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
        Label values in the files that are not among the classes.
    """

    references: Path
    predictions: Path
    cases: tuple[EvaluatedCase, ...]
    classes: Mapping[int, str]
    tolerance: Tolerance
    failures: tuple[Failure, ...]
    extra: tuple[Path, ...]
    left_out: tuple[Path, ...]
    other_values: tuple[int, ...]

    @property
    def default_name(self) -> str:
        """Name of the folder of the predictions, for a loss or tool that is not named otherwise."""
        folder = self.predictions if self.predictions.is_dir() else self.predictions.parent
        return folder.resolve().name

    def scores(self) -> Iterator[Score]:
        """Yield every metric of every class of every case; a class in neither mask is a correct absence."""
        for case in self.cases:
            present = {score.class_name for score in case.scores}
            for name in self.classes.values():
                if name in present:
                    yield from (score for score in case.scores if score.class_name == name)
                else:
                    yield from self._correct_absence(case.case, name)

    def table(self, loss: str, fold: int | Mapping[str, int] = 0, seed: int = 0) -> pd.DataFrame:
        """Return the scores as the long table of results (`pipeline.records.table`).

        Parameters
        ----------
        loss, seed
            Loss and seed of the training that made the predictions.
        fold
            Fold of the training, or the fold of each case.

        Raises
        ------
        DatasetError
            No case could be evaluated, or there is no class but the background.
        """
        if not self.cases:
            problem = f"none of {len(self.failures)} cases could be evaluated"
            raise DatasetError(self.predictions, problem, "correct the files that are listed as failed")
        if not self.classes:
            problem = "holds no class but the background, nor do the predictions"
            raise DatasetError(self.references, problem, "name the classes with --classes")
        return scores_frame(loss, fold, seed, self.scores())

    def _correct_absence(self, case: str, class_name: str) -> Iterator[Score]:
        for metric in METRICS:
            tolerance_mm = self.tolerance.of(class_name) if metric == "nsd" else None
            yield Score(case, class_name, metric, None, State.CORRECT_ABSENCE, tolerance_mm)


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
        references, or else from the values in the files.
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
        A folder cannot be read, or has no reference of one of `cases`.
    ConfigError
        The tolerance names a class that does not exist.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.phantoms import make_phantoms
    >>> with TemporaryDirectory() as name:
    ...     labels = make_phantoms(Path(name), cases=2, shape=(24, 24, 20), foreground_fraction=0.05) / "labelsTr"
    ...     table = evaluate_folders(labels, labels, workers=1).table("perfect")
    >>> table.query("metric == 'dice'").groupby("class")["value"].mean().to_dict()
    {'deep_grey': 1.0, 'lesions': 1.0, 'nucleus': 1.0}
    """
    pairing = pair_files(references, predictions)
    requested = tolerance or ToleranceRequest()
    found, annotation = _classes_beside(references)
    named = found if classes is None else dict(classes)
    if named is not None:
        requested.check(named.values())
    # If no reference can be read, no case is measured, and the spacing does not matter.
    resolved = requested.resolve(list(_spacings_mm(pairing)) or [(1.0, 1.0, 1.0)])
    pairing, left_out = (pairing, ()) if cases is None else _select(pairing, set(cases), references)
    evaluated: list[EvaluatedCase] = []
    failures = [_without_prediction(path, pairing.prediction_folder) for path in pairing.missing]
    evaluate = PairEvaluation(named, resolved, annotation=annotation)
    for index, result in enumerate(_results(pairing.pairs, evaluate, workers), start=1):
        if isinstance(result, EvaluatedCase):
            evaluated.append(result)
        else:
            failures.append(result)
        on_case(index, len(pairing.pairs))
    values = sorted({value for case in evaluated for value in case.values})
    if named is None:
        named = {value: str(value) for value in values}
        requested.check(named.values() if evaluated else requested.by_class)
    return Evaluation(
        references=references,
        predictions=predictions,
        cases=tuple(evaluated),
        classes=named,
        tolerance=resolved,
        failures=tuple(failures),
        extra=pairing.extra,
        left_out=left_out,
        other_values=tuple(value for value in values if value not in named),
    )


def _results(
    pairs: Sequence[FilePair], evaluate: PairEvaluation, workers: int | None
) -> Iterator[EvaluatedCase | Failure]:
    """Yield the results in the order of the pairs."""
    size = sum(path.stat().st_size for pair in pairs for path in (pair.reference, pair.prediction) if path.exists())
    workers = min(workers or os.cpu_count() or 1, len(pairs)) if size >= MINIMUM_POOL_BYTES else 1
    try:
        yield from map_in_processes(evaluate, pairs, workers)
    except BrokenProcessPool:
        problem = "a worker was killed, most likely out of memory"
        raise DatasetError(pairs[0].prediction.parent, problem, "retry with --workers 1") from None


def _spacings_mm(pairing: Pairing) -> Iterator[tuple[float, float, float]]:
    """Yield the spacing of every reference that can be read, including those without a prediction.

    The default tolerance is then that of the whole dataset, whichever of its folds is evaluated.
    """
    for path in (*(pair.reference for pair in pairing.pairs), *pairing.missing):
        try:
            yield read_header(path).spacing_mm
        except DatasetError:
            continue  # reported when the whole file is read


def _select(pairing: Pairing, cases: set[str], references: Path) -> tuple[Pairing, tuple[Path, ...]]:
    """Return the pairing of some cases, and the references of all others."""
    reference_of = {pair.case: pair.reference for pair in pairing.pairs}
    reference_of |= {stem(path): path for path in pairing.missing}
    unknown = sorted(cases - set(reference_of))
    if unknown:
        raise DatasetError(
            references,
            f"has no reference of {len(unknown)} of {len(cases)} cases, e.g. {unknown[0]}",
            "give the folder of all labels",
        )
    selected = replace(
        pairing,
        pairs=tuple(pair for pair in pairing.pairs if pair.case in cases),
        missing=tuple(path for path in pairing.missing if stem(path) in cases),
    )
    return selected, tuple(path for case, path in reference_of.items() if case not in cases)


def _without_prediction(reference: Path, prediction_folder: Path) -> Failure:
    file = prediction_folder / reference.name
    return Failure(stem(reference), str(file), "does not exist", "predict this case, or remove its reference")


def _classes_beside(references: Path) -> tuple[dict[int, str] | None, Annotation]:
    """Return foreground and ignore label of a dataset.json in or above the folder of the references.

    The foreground is None without such a file.
    """
    folder = references if references.is_dir() else references.parent
    for path in (folder / "dataset.json", folder.resolve().parent / "dataset.json"):
        if path.is_file():
            content = read_json(path)
            labels = content.get("labels") if isinstance(content, dict) else None
            classes = {value: label for value, label in class_names(labels, path).items() if value}
            return classes, Annotation(ignore_value(labels, path))
    return None, COMPLETE
