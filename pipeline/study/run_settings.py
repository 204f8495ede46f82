"""The settings of one run of a study."""

from collections.abc import Mapping

from pipeline.errors import RecordError
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.records.folder import RunKey
from pipeline.records.study import StudyRecord
from pipeline.study.budget import validations
from pipeline.study.context import StudyContext
from pipeline.training.preparation import PreparedCase
from pipeline.training.run import MAXIMUM_CURVE_CASES
from pipeline.training.settings import RunSettings


def settings_of_run(
    key: RunKey, context: StudyContext, record: StudyRecord, prepared: Mapping[str, PreparedCase]
) -> RunSettings:
    """Return the settings of one run.

    Steps, precision, threads and learning rates come from the record, so that a continued study computes alike on
    another machine.

    Parameters
    ----------
    key
        The run.
    context
        The study.
    record
        The record of the study.
    prepared
        Prepared cases by id.

    Raises
    ------
    RecordError
        If the record names no steps or no precision.
    """
    if record.budget.steps is None or record.precision is None:
        raise RecordError(context.folder.settings, "names no steps or no precision", "use another --out")
    dataset = context.dataset
    arm = next(arm for arm in context.arms if arm.label == key.loss)
    fold = next(fold for fold in context.folds if fold.index == key.fold)
    held_out = set(fold.cases)
    training = [case for case in dataset.cases if case.id not in held_out]
    originals = {case.id: case for case in dataset.cases}
    curve_shapes = [prepared[case_id].shape for case_id in fold.cases[:MAXIMUM_CURVE_CASES]]
    return RunSettings(
        loss=arm,
        fold=key.fold,
        seed=key.seed,
        plan=context.plan,
        classes=dataset.foreground,
        class_voxels=_class_voxels(context, {case.id for case in training}),
        training=tuple(prepared[case.id] for case in training),
        patients=tuple(case.patient for case in training),
        validation=tuple(prepared[case.id] for case in dataset.cases if case.id in held_out),
        originals={case_id: originals[case_id] for case_id in fold.cases},
        steps=record.budget.steps,
        validations=validations(record.budget.steps, context.plan, curve_shapes, WINDOW_OVERLAP),
        precision=record.precision,
        learning_rates=record.learning_rates,
        threads=record.machine.threads,
        device=record.machine.device,
        keep_predictions=context.request.keep_predictions,
    )


def _class_voxels(context: StudyContext, cases: set[str]) -> tuple[int, ...]:
    """Return the voxels of each class (background first) in the labels of some cases."""
    scans = [scan for scan in context.fingerprint.scans if scan.case in cases]
    return tuple(
        sum(scan.classes[value].voxels for scan in scans if value in scan.classes)
        for value in sorted(context.dataset.classes)
    )
