"""Results of nnU-Net as trainings that can be compared and written as the records of a study."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.layouts.description import IGNORE
from pipeline.errors import RecordError
from pipeline.losses.catalogue import formula_of
from pipeline.records.folder import RunKey
from pipeline.records.run import RunRecord
from pipeline.records.study import ArmRecord, BudgetRecord, DatasetSummary, PlanRecord
from pipeline.records.table import Score, mean_dice, scores_frame
from pipeline.trainers.nnunet.budget import ITERATIONS
from pipeline.trainers.nnunet.curve import curve_events, read_curve, training_seconds
from pipeline.trainers.nnunet.json_file import read_json_object
from pipeline.trainers.nnunet.mask_scores import MaskFolder, MaskOptions, measure_masks
from pipeline.trainers.nnunet.plans import plan_of, read_configurations
from pipeline.trainers.nnunet.results import ArmFolder
from pipeline.trainers.nnunet.summary import class_names, label_values, read_summary
from pipeline.trainers.nnunet.training_record import TrainingRecord, read_training_record
from pipeline.trainers.trainings import NNUNET, Gap, Source, Training

TRAINER = "nnU-Net v2"

PREPROCESSED = "nnUNet_preprocessed"
"""Variable of the environment with nnU-Net's folder of prepared data, which holds the references, too."""

_SETTINGS_REMEDY = "copy it from another results folder of the dataset, or leave the arm out with --arms"


@dataclass(frozen=True, slots=True)
class _Fold:
    """One fold as read: scores of its summary, its curve by epoch, and the record that a trainer of whichloss left."""

    arm: ArmFolder
    fold: int
    scores: tuple[Score, ...]
    curve: pd.DataFrame
    own: TrainingRecord | None

    @property
    def key(self) -> RunKey:
        return RunKey(self.arm.label, self.fold, self.arm.seed)

    @property
    def iterations(self) -> int:
        # Results of other trainers than those of whichloss do not tell whether an epoch has another length.
        return ITERATIONS if self.own is None else self.own.iterations

    @property
    def masks(self) -> Path:
        return self.arm.folds[self.fold] / "validation"

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(score.case for score in self.scores))


def read_results(
    arms: Sequence[ArmFolder],
    skip_bad: bool = False,
    masks: MaskOptions | None = None,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> Source:
    """Read every fold of every arm.

    Parameters
    ----------
    arms
        From `pipeline.trainers.nnunet.results.find_arms`.
    skip_bad
        Leave out folds that cannot be used, instead of an error.
    masks
        How masks are measured. With references, all metrics are computed from the masks in ``fold_N/validation``.
    on_fold
        Called after each fold with the number read and that of all.

    Raises
    ------
    RecordError
        If a summary is missing, truncated or foreign, or a case was predicted in two folds of one arm and seed.
    """
    folds, gaps = _read_folds(arms, skip_bad, on_fold)
    options = masks or MaskOptions()
    references = options.references or _own_references(folds)
    scores: list[tuple[Score, ...] | RecordError] = [read.scores for read in folds]
    if references is not None:
        scores = measure_masks([_mask_folder(read) for read in folds], references, options)
    trainings: list[Training] = []
    for read, found in zip(folds, scores, strict=True):
        if not isinstance(found, RecordError):
            trainings.append(_training(read, found))
        elif skip_bad:
            gaps.append(Gap.of_run(read.key, found))
        else:
            raise found
    if not trainings:
        raise RecordError(arms[0].root, "has no usable fold", "train a fold with validation first")
    measured = "counts of voxels in summary.json" if references is None else f"masks, against {references}"
    return _source(arms, trainings, gaps, measured)


def _read_folds(
    arms: Sequence[ArmFolder], skip_bad: bool, on_fold: Callable[[int, int], None]
) -> tuple[list[_Fold], list[Gap]]:
    """Return all folds, and those that cannot be read if they are to be left out."""
    folds: list[_Fold] = []
    gaps: list[Gap] = []
    total = sum(len(arm.folds) for arm in arms)
    for arm in arms:
        seen: dict[str, int] = {}
        for fold, folder in arm.folds.items():
            try:
                _configuration(arm)
                names = class_names(_description(arm).get("labels", {}))
                folds.append(_read_fold(arm, fold, folder, names, seen))
            except RecordError as error:
                if not skip_bad:
                    raise
                gaps.append(Gap.of_run(RunKey(arm.label, fold, arm.seed), error))
            on_fold(len(folds) + len(gaps), total)
    return folds, gaps


def _description(arm: ArmFolder) -> dict[str, Any]:
    return read_json_object(arm.root / "dataset.json", _SETTINGS_REMEDY)


def _read_fold(arm: ArmFolder, fold: int, folder: Path, names: dict[str, str], seen: dict[str, int]) -> _Fold:
    path = folder / "validation" / "summary.json"
    summary = read_summary(path)
    for case in summary.metric_per_case:
        if seen.setdefault(case.case, fold) != fold:
            raise RecordError(
                path,
                f"has case {case.case}, which fold {seen[case.case]} has too",
                "give results of one splits_final.json",
            )
    return _Fold(arm, fold, tuple(summary.scores(names)), read_curve(folder), read_training_record(folder))


def _own_references(folds: Sequence[_Fold]) -> Path | None:
    """Return nnU-Net's own references if all masks are there, too; None if the summaries have to do."""
    prepared = os.environ.get(PREPROCESSED)
    datasets = {fold.arm.root.resolve().parent.name for fold in folds}
    if not prepared or len(datasets) != 1:
        return None
    references = Path(prepared) / datasets.pop() / "gt_segmentations"
    files = [folder / f"{case}.nii.gz" for fold in folds for case in fold.cases for folder in (references, fold.masks)]
    return references if all(file.is_file() for file in files) else None


def _mask_folder(fold: _Fold) -> MaskFolder:
    """Return the masks of a fold."""
    labels = _description(fold.arm).get("labels", {})
    return MaskFolder(fold.masks, fold.cases, label_values(labels), labels.get(IGNORE))


def _training(fold: _Fold, scores: Sequence[Score]) -> Training:
    seconds = training_seconds(fold.curve)
    record = RunRecord(
        loss=fold.key.loss,
        fold=fold.key.fold,
        seed=fold.key.seed,
        steps=len(fold.curve) * fold.iterations or None,
        seconds=seconds,
        training_seconds=seconds,
        cases=fold.cases,
        state="ok",
        mean_dice=mean_dice(scores),
    )
    if fold.own is not None:
        hashes = {"initial_weights_hash": fold.own.initial_weights_hash, "feed_hash": fold.own.feed_hash}
        record = record.model_copy(update=hashes)
    table = scores_frame(fold.key.loss, fold.key.fold, fold.key.seed, scores)
    return Training(record, table, curve_events(fold.curve, fold.iterations))


def _source(arms: Sequence[ArmFolder], trainings: Sequence[Training], gaps: Sequence[Gap], measured: str) -> Source:
    used = [arm for arm in arms if any(training.key.loss == arm.label for training in trainings)]
    dataset = _description(used[0])
    labels = dataset.get("labels", {})
    channels = dataset.get("channel_names", dataset.get("modality", {}))
    folder = used[0].root.resolve().parent
    name = str(dataset.get("name", folder.name))
    epochs = sorted({len(training.events) // 2 for training in trainings if training.events})
    steps = {training.record.steps for training in trainings if training.record.steps}
    return Source(
        name=NNUNET,
        trainer=TRAINER,
        dataset=DatasetSummary(
            path=str(folder),
            name=name,
            layout="nnU-Net results",
            channels=tuple(str(channel) for channel in channels.values()),
            classes={str(value): str(label) for label, value in labels.items() if label != IGNORE},
        ),
        arms=tuple(_arm_record(arm) for arm in {arm.label: arm for arm in used}.values()),
        trainings=tuple(trainings),
        gaps=tuple(gaps),
        plan=_plan(used),
        budget=BudgetRecord(
            asked=" or ".join(f"{count} epochs" for count in epochs) or None,
            steps=steps.pop() if len(steps) == 1 else None,
        ),
        shared=tuple(
            name
            for index, name in enumerate(("trainer", "plans", "configuration"))
            if len({arm.parts[index] for arm in used}) == 1
        ),
        measured=measured,
    )


def _plan(arms: Sequence[ArmFolder]) -> PlanRecord:
    """Return the settings that all arms share; one in which they differ is left out."""
    plans = [plan_of(_configuration(arm)) for arm in arms]
    first = plans[0]
    shared = {name for name, value in first if all(getattr(plan, name) == value for plan in plans)}
    return PlanRecord(**{name: value for name, value in first if name in shared & first.model_fields_set})


def _configuration(arm: ArmFolder) -> Mapping[str, Any]:
    path = arm.root / "plans.json"
    known = read_configurations(path, _SETTINGS_REMEDY)
    if arm.configuration not in known:
        raise RecordError(path, f"has no configuration {arm.configuration}", _SETTINGS_REMEDY)
    return known[arm.configuration]


def _arm_record(arm: ArmFolder) -> ArmRecord:
    """Return an arm with its loss, if the trainer is one of this package."""
    if not arm.loss:
        return ArmRecord(name=arm.trainer, label=arm.label, spec="__".join(arm.parts))
    name = arm.loss.partition("{")[0]
    return ArmRecord(name=name, label=arm.label, spec=arm.loss, formula=formula_of(name))
