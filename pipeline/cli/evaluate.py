"""`segloss evaluate`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import err, print_json, progress
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, DatasetError, ExitCode

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.metrics.folders import Pair
    from pipeline.records.table import Score

_WORTH_A_POOL_BYTES = 4 << 20
"""Below this much on disk, starting processes takes longer than they save."""


def evaluate(
    references: Annotated[Path, typer.Argument(help="Folder of label maps to trust (.nii, .nii.gz), or one file.")],
    predictions: Annotated[Path, typer.Argument(help="Folder of masks of the same names, from any tool, or one file.")],
    out: Annotated[Path | None, typer.Option(help="Write every value to this CSV, for `segloss compare`.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the loss or tool; left out: the folder's.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the surface Dice (nsd) in mm.")] = 1.0,
    classes: Annotated[
        str | None, typer.Option(help="E.g. 1=anterior,2=posterior; left out: dataset.json beside, or values found.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; left out: one a core.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare masks of any tool with references: the whole panel of metrics, in mm, for each case and class."""
    from pipeline.metrics.aggregate import summarise
    from pipeline.metrics.folders import pair_files
    from pipeline.records.table import scores_frame, write_table

    if not 0 <= tolerance_mm < float("inf"):
        raise ConfigError(f"--tolerance-mm {tolerance_mm:g}", "is no distance", "give mm, e.g. 1")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}", "is less than one process", "give 1 or more")
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}", "is a folder", "name a file, e.g. cases.csv")
    pairing = pair_files(references, predictions)
    named = _parse_classes(classes) if classes is not None else _classes_beside(references)
    failures = [_missing(path, predictions) for path in pairing.missing]
    done: list[_Case] = []
    with progress() as bar:
        task = bar.add_task("evaluating", total=len(pairing.pairs))
        for result in _each(pairing.pairs, named, tolerance_mm, workers):
            if isinstance(result, _Case):
                done.append(result)
            else:
                failures.append(result)
            bar.advance(task)
    for failure in failures:
        err.print(f"{failure['file']}: {failure['problem']}; {failure['remedy']}", highlight=False, markup=False)
    for path in pairing.extra:
        err.print(f"{path}: has no reference; left out", highlight=False, markup=False)
    if not done:
        raise DatasetError(predictions, f"none of {len(failures)} cases could be evaluated", "see the lines above")
    if named is None:
        named = {value: str(value) for value in sorted({value for case in done for value in case.values})}
    if not named:
        raise DatasetError(references, "holds no class but the background, nor do the predictions", "name --classes")
    _note_other_values(done, named)

    loss = name or (predictions if predictions.is_dir() else predictions.parent).resolve().name
    table = scores_frame(loss, 0, 0, _scores(done, named))
    if out is not None:
        write_table(out, table)
    summary = summarise(table)
    if json:
        print_json(
            {
                "loss": loss,
                "cases": len(done),
                "classes": {str(value): label for value, label in named.items()},
                "tolerance_mm": tolerance_mm,
                "summary": _records(summary),
                "failed": failures,
                "extra": [str(path) for path in pairing.extra],
                "out": None if out is None else str(out),
            }
        )
    else:
        _print_summary(summary, loss, len(done), tolerance_mm)
        if out is not None:
            console.print(f"Every value: {out}", highlight=False, markup=False)
    if failures:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


@dataclass(frozen=True, slots=True)
class _Case:
    """Scores of one case, for the classes asked for, or for the values found when none were."""

    case: str
    scores: tuple["Score", ...]
    values: tuple[int, ...]


Failure = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One pair read, checked and measured, in a process of its own."""

    classes: Mapping[int, str] | None
    tolerance_mm: float

    def __call__(self, pair: "Pair") -> "_Case | Failure":
        from pipeline.data.integrity import grid_difference
        from pipeline.data.labels import NotALabel, count_values, label_values
        from pipeline.data.nifti import read_nifti
        from pipeline.metrics.panel import evaluate_case

        maps, headers, values = [], [], set()
        for path in (pair.reference, pair.prediction):
            try:
                file = read_nifti(path)
                if file.header.channels > 1:
                    return _failure(
                        pair.case, path, "is 4D where a label map is meant", "store one class value a voxel"
                    )
                stored = label_values(file.voxels, file.header)
                values |= set(count_values(stored))
            except DatasetError as error:
                return _failure(pair.case, path, error.problem, error.remedy)
            except NotALabel as error:
                return _failure(pair.case, path, str(error), "give label maps: whole numbers, one for each class")
            maps.append(stored.reshape(file.header.grid, order="F"))
            headers.append(file.header)
        difference = grid_difference(headers[1], headers[0])
        if difference:
            problem = f"is not on the grid of its reference {pair.reference.name}: it has {difference}"
            return _failure(pair.case, pair.prediction, problem, "resample the prediction to its reference's grid")
        found = tuple(sorted(values - {0}))
        classes = {value: str(value) for value in found} if self.classes is None else self.classes
        spacing_mm = headers[0].spacing_mm
        scores = evaluate_case(pair.case, maps[0], maps[1], spacing_mm, classes, tolerance_mm=self.tolerance_mm)
        return _Case(pair.case, tuple(scores), found)


def _failure(case: str, path: Path, problem: str, remedy: str) -> Failure:
    return {"case": case, "file": str(path), "problem": problem, "remedy": remedy}


def _missing(reference: Path, predictions: Path) -> Failure:
    case = reference.name.removesuffix(".gz").removesuffix(".nii")
    return _failure(case, predictions / reference.name, "does not exist", "predict this case, or remove its reference")


def _each(
    pairs: Sequence["Pair"], classes: Mapping[int, str] | None, tolerance_mm: float, workers: int | None
) -> Iterator["_Case | Failure"]:
    """Yield the results in the order of the pairs."""
    import os
    from concurrent.futures.process import BrokenProcessPool

    from pipeline.processes import worker_pool

    evaluation = _Evaluation(classes, tolerance_mm)
    size = sum(path.stat().st_size for pair in pairs for path in (pair.reference, pair.prediction) if path.exists())
    workers = min(workers or os.cpu_count() or 1, len(pairs))
    if workers <= 1 or size < _WORTH_A_POOL_BYTES:
        yield from map(evaluation, pairs)
        return
    try:
        with worker_pool(workers) as pool:
            yield from pool.map(evaluation, pairs)
    except BrokenProcessPool:
        raise DatasetError(
            pairs[0].prediction.parent, "a process that read it was killed, most likely for memory", "use --workers 1"
        ) from None


def _parse_classes(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in text.split(","):
        value, _, label = (piece.strip() for piece in part.partition("="))
        if not value.isascii() or not value.isdigit() or int(value) < 1 or int(value) in found:
            raise ConfigError(f"--classes {text}", f"has {part!r}", "write e.g. 1=anterior,2=posterior")
        found[int(value)] = label or value
    if len(set(found.values())) < len(found):
        raise ConfigError(f"--classes {text}", "gives two classes one name", "name each class differently")
    return dict(sorted(found.items()))


def _classes_beside(references: Path) -> dict[int, str] | None:
    """Return the foreground of a dataset.json in or above the folder of the references, None without one."""
    from pipeline.data.layouts.description import class_names, read_json

    folder = references if references.is_dir() else references.parent
    for path in (folder / "dataset.json", folder.resolve().parent / "dataset.json"):
        if path.is_file():
            content = read_json(path)
            labels = content.get("labels") if isinstance(content, dict) else None
            return {value: label for value, label in class_names(labels, path).items() if value}
    return None


def _note_other_values(done: Iterable[_Case], classes: Mapping[int, str]) -> None:
    others = sorted({value for case in done for value in case.values} - set(classes))
    if others:
        err.print(f"values that are no class were left out: {', '.join(map(str, others))}", highlight=False)


def _scores(done: Iterable[_Case], classes: Mapping[int, str]) -> Iterator["Score"]:
    """Yield every class of every case; one that neither mask of a case holds is a correct absence."""
    from pipeline.metrics.panel import CALIBRATION, METRICS
    from pipeline.records.table import Score

    for case in done:
        present = {score.class_name for score in case.scores}
        for label in classes.values():
            if label in present:
                yield from (score for score in case.scores if score.class_name == label)
            else:
                names = (name for name in METRICS if name not in CALIBRATION)
                yield from (Score(case.case, label, name, None, "correct_absence") for name in names)


def _records(summary: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows as JSON objects, None for a mean over nothing."""
    rows = summary.drop(columns="loss").astype(object)
    return [
        {str(key): value for key, value in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")
    ]


def _print_summary(summary: "pd.DataFrame", loss: str, cases: int, tolerance_mm: float) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{escape(loss)}, {cases} case{'s' if cases > 1 else ''}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("class, metric", overflow="fold")
    for head in ("mean ± sd", "median", "cases", "missed", "false+", "absent"):
        table.add_column(head, justify="right", no_wrap=True)
    for label, rows in summary.groupby("class", sort=False):
        table.add_row(f"[bold]{escape(str(label))}[/]")
        for row in rows.to_dict("records"):
            metric = row["metric"] if row["metric"] != "nsd" else f"nsd ({tolerance_mm:g} mm)"
            counts = (str(row[count]) for count in ("defined", "missed", "false_positive", "correct_absence"))
            values = f"{_number(row['mean'])} ± {_number(row['std'])}", _number(row["median"])
            table.add_row(f" {metric}", *values, *counts)
    console.print(table)
    console.print(
        "cases: those of the mean, with missed and false+ (false positives) at overlap 0 and the image's diagonal;\n"
        "absent: neither mask holds the class, no value",
        style="dim",
        highlight=False,
    )


def _number(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
