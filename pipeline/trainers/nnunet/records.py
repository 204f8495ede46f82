"""Results of nnU-Net as the records of a study, so that reports, MLflow and comparisons read them like any other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import DatasetError, RecordError
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.records.events import TrainEvent, ValidationEvent, write_events
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.run import RunRecord
from pipeline.records.study import (
    ArmRecord,
    BudgetRecord,
    CaseFiles,
    DatasetSummary,
    PlannedRun,
    PlanRecord,
    StudyRecord,
)
from pipeline.records.table import Score, scores_frame, write_table
from pipeline.system.files import write_json
from pipeline.trainers.nnunet.json_file import read_json_object
from pipeline.trainers.nnunet.results import ArmFolder
from pipeline.trainers.nnunet.summary import class_names, read_summary
from pipeline.version import __version__

ITERATIONS_OF_AN_EPOCH = 250
"""Of nnU-Net's trainers; results do not tell whether a trainer of one's own has others."""

_SETTINGS_REMEDY = "copy it from another results folder of the dataset, or leave the arm out with --arms"


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One training: its scores on the held-out cases, its curve, and its time in seconds (None if not recorded)."""

    arm: ArmFolder
    fold: int
    scores: tuple[Score, ...]
    curve: pd.DataFrame
    seconds: float | None

    @property
    def key(self) -> RunKey:
        """The training as a run of a study."""
        return RunKey(self.arm.label, self.fold, self.arm.seed)

    @property
    def cases(self) -> tuple[str, ...]:
        """Held-out cases, in the order of the summary."""
        return tuple(dict.fromkeys(score.case for score in self.scores))


@dataclass(frozen=True, slots=True)
class Gap:
    """A fold that cannot be used, with the reason."""

    arm: str
    fold: int
    error: RecordError


@dataclass(frozen=True, slots=True)
class Results:
    """All trainings that were found, and the folds that cannot be used."""

    arms: tuple[ArmFolder, ...]
    folds: tuple[FoldResult, ...]
    gaps: tuple[Gap, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the arms with at least one usable fold, in the order found."""
        return tuple(dict.fromkeys(result.arm.label for result in self.folds))

    def folds_of(self, label: str) -> dict[str, int]:
        """Return the fold of each case in one arm."""
        return {case: result.fold for result in self.folds if result.arm.label == label for case in result.cases}


def read_results(
    arms: Sequence[ArmFolder],
    skip_bad: bool = False,
    references: Path | None = None,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> Results:
    """Read every fold of every arm.

    Parameters
    ----------
    arms
        From `pipeline.trainers.nnunet.results.find_arms`.
    skip_bad
        Leave out folds that cannot be used, instead of an error.
    references
        Folder of the references. With it, all metrics are computed from the masks in ``fold_N/validation``.
    on_fold
        Called after each fold with the number read and that of all.

    Raises
    ------
    RecordError
        If a summary is missing, truncated or foreign, or a case was predicted in two folds of one arm and seed.
    """
    results: list[FoldResult] = []
    gaps: list[Gap] = []
    total = sum(len(arm.folds) for arm in arms)
    for arm in arms:
        names = class_names(read_json_object(arm.root / "dataset.json", _SETTINGS_REMEDY).get("labels", {}))
        seen: dict[str, int] = {}
        for fold, folder in arm.folds.items():
            try:
                result = _read_fold(arm, fold, folder, names, seen)
                results.append(result if references is None else _with_panel(result, references, names))
            except RecordError as error:
                if not skip_bad:
                    raise
                gaps.append(Gap(arm.label, fold, error))
            on_fold(len(results) + len(gaps), total)
    if not results:
        raise RecordError(arms[0].root, "has no usable fold", "train a fold with validation first")
    return Results(tuple(arms), tuple(results), tuple(gaps))


def _read_fold(arm: ArmFolder, fold: int, folder: Path, names: dict[str, str], seen: dict[str, int]) -> FoldResult:
    path = folder / "validation" / "summary.json"
    summary = read_summary(path)
    for case in summary.metric_per_case:
        if seen.setdefault(case.case, fold) != fold:
            raise RecordError(
                path,
                f"has case {case.case}, which fold {seen[case.case]} has too",
                "give results of one splits_final.json",
            )
    curve = _curve(folder / "progress.csv")
    seconds = None
    if {"epoch_start_timestamps", "epoch_end_timestamps"} <= set(curve):
        seconds = float((curve["epoch_end_timestamps"] - curve["epoch_start_timestamps"]).sum())
    return FoldResult(arm, fold, tuple(summary.scores(names)), curve, seconds)


def _with_panel(result: FoldResult, references: Path, names: Mapping[str, str]) -> FoldResult:
    """Return a fold with all metrics of its masks in place of those of its summary."""
    masks = result.arm.folds[result.fold] / "validation"
    regions = [key for key in names if not key.isdecimal()]
    if regions:
        raise RecordError(
            masks, f"holds regions such as {names[regions[0]]}", "leave --references out: the summary has their overlap"
        )
    classes = {int(key): name for key, name in names.items()}
    try:
        evaluation = evaluate_folders(references, masks, classes, cases=result.cases)
    except DatasetError as error:
        raise RecordError(
            masks, f"cannot be evaluated ({error})", "give the masks, or leave --references out"
        ) from error
    for failure in evaluation.failures:
        raise RecordError(failure.file, failure.problem, failure.remedy)
    return replace(result, scores=tuple(evaluation.scores()))


def _curve(path: Path) -> pd.DataFrame:
    """Return the curve of a training by epoch; empty if it was not recorded as CSV."""
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RecordError(path, f"cannot be read as CSV ({error})", "remove it: the comparison does without") from error


def write_study(results: Results, out: Path, command: str = "") -> StudyFolder:
    """Write the records of a study from results of nnU-Net, the settings last.

    Raises
    ------
    RecordError
        If the settings of an arm cannot be read.
    """
    study = StudyFolder(out)
    for result in results.folds:
        run = study.run(result.key)
        run.root.mkdir(parents=True, exist_ok=True)
        write_events(run.events, _events(result))
        write_table(run.cases, scores_frame(result.arm.label, result.fold, result.arm.seed, result.scores))
        write_json(run.record, _run_record(result).to_json())
    write_json(study.settings, _study_record(results, command).to_json())
    return study


def _run_record(result: FoldResult) -> RunRecord:
    dice = [score.value for score in result.scores if score.metric == "dice" and score.value is not None]
    return RunRecord(
        loss=result.arm.label,
        fold=result.fold,
        seed=result.arm.seed,
        steps=len(result.curve) * ITERATIONS_OF_AN_EPOCH or None,
        seconds=result.seconds,
        training_seconds=result.seconds,
        cases=result.cases,
        state="ok",
        mean_dice=sum(dice) / len(dice) if dice else None,
    )


def _events(result: FoldResult) -> list[TrainEvent | ValidationEvent]:
    """Return the curve as events; nnU-Net's Dice is that of patches during training."""
    events: list[TrainEvent | ValidationEvent] = []
    seconds = 0.0
    for row in result.curve.to_dict("records"):
        step = (len(events) // 2 + 1) * ITERATIONS_OF_AN_EPOCH
        seconds += float(row.get("epoch_end_timestamps", 0.0)) - float(row.get("epoch_start_timestamps", 0.0))
        events.append(
            TrainEvent(step=step, loss=_number(row, "train_losses"), learning_rate=_number(row, "lrs"), seconds=seconds)
        )
        events.append(ValidationEvent(step=step, seconds=seconds, mean_dice=_number(row, "mean_fg_dice")))
    return events


def _number(row: dict[Any, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or pd.isna(value) else float(value)


def _study_record(results: Results, command: str) -> StudyRecord:
    first = results.arms[0]
    dataset = read_json_object(first.root / "dataset.json", _SETTINGS_REMEDY)
    labels = dataset.get("labels", {})
    channels = dataset.get("channel_names", dataset.get("modality", {}))
    epochs = sorted({len(result.curve) for result in results.folds if len(result.curve)})
    cases = dict.fromkeys(case for result in results.folds for case in result.cases)
    seeds = sorted({result.arm.seed for result in results.folds})
    folds = sorted({result.fold for result in results.folds})
    return StudyRecord(
        schema=1,
        segloss=__version__,
        name=f"{dataset.get('name', first.root.parent.name)}: {' vs '.join(results.labels)}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        dataset=DatasetSummary(
            path=str(first.root.parent.resolve()),
            name=str(dataset.get("name", first.root.parent.name)),
            layout="nnU-Net results",
            cases=len(cases),
            channels=tuple(str(name) for name in channels.values()),
            classes={str(value): str(name) for name, value in labels.items()},
        ),
        losses=tuple(
            ArmRecord(name=arm.trainer, label=arm.label, spec="__".join(arm.parts))
            for arm in {arm.label: arm for arm in results.arms if arm.label in results.labels}.values()
        ),
        folds=len(folds),
        seeds=tuple(seeds),
        budget=BudgetRecord(
            asked=" or ".join(f"{count} epochs" for count in epochs) or None,
            steps=epochs[0] * ITERATIONS_OF_AN_EPOCH if len(epochs) == 1 else None,
        ),
        trainer="nnU-Net v2",
        notes=(shared_conditions(results),),
        plan=_plan(results.arms),
        cases={case: CaseFiles(patient=case) for case in cases},
        runs=tuple(
            PlannedRun(loss=arm.label, fold=fold, seed=arm.seed)
            for arm in results.arms
            if arm.label in results.labels
            for fold in arm.folds
        ),
    )


def _plan(arms: Sequence[ArmFolder]) -> PlanRecord:
    """Return the settings that all arms share; one in which they differ is left out."""
    shared: dict[str, Any] = {}
    plans = [_configuration(arm) for arm in arms]
    for name in ("spacing", "patch_size", "batch_size", "features"):
        values = [plan.get(name) for plan in plans]
        if values[0] is not None and all(value == values[0] for value in values):
            shared[name] = values[0]
    names = {"spacing": "spacing_mm", "patch_size": "patch", "batch_size": "batch", "features": "channels"}
    return PlanRecord(**{names[name]: value for name, value in shared.items()})


def _configuration(arm: ArmFolder) -> dict[str, Any]:
    """Return the settings of an arm's configuration; a cascade inherits those that it does not state."""
    path = arm.root / "plans.json"
    known = read_json_object(path, _SETTINGS_REMEDY).get("configurations", {})
    found: dict[str, Any] = {}
    name: str | None = arm.configuration
    while name is not None:
        if name not in known:
            raise RecordError(path, f"has no configuration {name}", _SETTINGS_REMEDY)
        found = known[name] | found
        name = known[name].get("inherits_from")
    network = found.get("architecture", {}).get("arch_kwargs", {})
    return found | {"features": network.get("features_per_stage")}


def shared_conditions(results: Results) -> str:
    """Return in sentences what the arms share and what they do not."""
    arms = [arm for arm in results.arms if arm.label in results.labels]
    names = ("trainer", "plans", "configuration")
    same = [name for index, name in enumerate(names) if len({arm.parts[index] for arm in arms}) == 1]
    one_split = all(results.folds_of(label) == results.folds_of(results.labels[0]) for label in results.labels)
    shared = ["cases and splits", *same] if one_split else same
    return (
        f"The arms share {', '.join(shared) or 'nothing that the results record'}. They do not share initial weights "
        "or the order of batches, because nnU-Net does not seed its trainings: part of every gap is chance."
    )
