"""The runs of a study as its trainer is given them."""

from pipeline.records.folder import RunFolder
from pipeline.study.context import StudyContext
from pipeline.trainers.trainer import Run


def run_of(folder: RunFolder, context: StudyContext) -> Run:
    """Return one run of a study.

    Parameters
    ----------
    folder
        Folder of the run.
    context
        The study.
    """
    dataset, key = context.dataset, folder.key
    held_out = set(next(fold for fold in context.folds if fold.index == key.fold).cases)
    training = tuple(case for case in dataset.cases if case.id not in held_out)
    return Run(
        folder=folder,
        loss=next(arm for arm in context.arms if arm.label == key.loss),
        classes=dataset.foreground,
        class_voxels=_class_voxels(context, {case.id for case in training}),
        training=training,
        held_out=tuple(case for case in dataset.cases if case.id in held_out),
        tolerance=context.plan.tolerance,
    )


def _class_voxels(context: StudyContext, cases: set[str]) -> tuple[int, ...]:
    """Return the voxels of each class (background first) in the labels of some cases."""
    scans = [scan for scan in context.fingerprint.scans if scan.case in cases]
    return tuple(
        sum(scan.classes[value].voxels for scan in scans if value in scan.classes)
        for value in sorted(context.dataset.classes)
    )
