"""Results folders of nnU-Net v2: which arms, folds and seeds there are.

The layout is ``DatasetNNN_NAME/TRAINER__PLANS__CONFIGURATION/fold_N/validation/summary.json``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import RecordError
from pipeline.trainers.nnunet.training_record import NAME, TrainingRecord, read_training_record

_ARM = re.compile(r"(?P<trainer>.+?)__(?P<plans>.+?)__(?P<configuration>[^_].*)")
_FOLD = re.compile(r"fold_(\d+)")
_SEED = re.compile(r"(?P<trainer>.+)_seed(?P<seed>\d+)")


@dataclass(frozen=True, slots=True)
class ArmFolder:
    """One trained configuration: a trainer class with plans, and one seed of it.

    Attributes
    ----------
    label
        Name in the comparison.
    trainer, plans, configuration
        The parts of the folder's name, the trainer without its seed.
    seed
        Seed, from ``segloss.json``, a trainer's name that ends in ``_seed1``, or the order of several results folders.
    folds
        Folder of each fold.
    loss
        The loss with its arguments, from ``segloss.json``; None for other trainers.
    """

    label: str
    trainer: str
    plans: str
    configuration: str
    seed: int
    root: Path
    folds: Mapping[int, Path]
    loss: str | None = None

    @property
    def parts(self) -> tuple[str, str, str]:
        """Trainer, plans and configuration, which together identify the arm."""
        return self.trainer, self.plans, self.configuration


def is_results(path: Path) -> bool:
    """Return True if the folder is one of nnU-Net's results folders, or an arm of one."""
    return path.is_dir() and bool(_arm_folders(path))


def find_arms(paths: Sequence[Path]) -> tuple[ArmFolder, ...]:
    """Return all arms of some results folders, named by the parts in which they differ.

    Parameters
    ----------
    paths
        Folders of a dataset, or of single arms. An arm that is found in a second folder is another seed.

    Raises
    ------
    RecordError
        If a folder holds no results, or an arm has no fold.
    """
    found: list[ArmFolder] = []
    for path in paths:
        folders = _arm_folders(path)
        if not folders:
            raise RecordError(
                path,
                "holds no results of nnU-Net v2",
                "give a folder such as nnUNet_results/Dataset004_Hippocampus, or TRAINER__PLANS__CONFIGURATION in it",
            )
        for folder in folders:
            arm = _read_arm(folder)
            known = {other.seed for other in found if other.parts == arm.parts}
            if arm.seed in known:
                arm = replace(arm, seed=max(known) + 1)
            found.append(arm)
    return tuple(_labeled(found))


def _arm_folders(path: Path) -> list[Path]:
    if _ARM.fullmatch(path.resolve().name) and any(_FOLD.fullmatch(child.name) for child in path.glob("fold_*")):
        return [path]
    return sorted(child for child in path.glob("*__*__*") if child.is_dir() and _ARM.fullmatch(child.name))


def _read_arm(folder: Path) -> ArmFolder:
    parts = _ARM.fullmatch(folder.resolve().name)
    assert parts is not None  # `_arm_folders` returns no others
    trainer, seed = parts["trainer"], 0
    if seeded := _SEED.fullmatch(trainer):
        trainer, seed = seeded["trainer"], int(seeded["seed"])
    folds = {int(match[1]): child for child in sorted(folder.glob("fold_*")) if (match := _FOLD.fullmatch(child.name))}
    if not folds:
        raise RecordError(folder, "has no fold with a number", "train folds 0 to 4; fold_all has no held-out cases")
    arm = ArmFolder("", trainer, parts["plans"], parts["configuration"], seed, folder, dict(sorted(folds.items())))
    record = _shared_record(arm.folds)
    return arm if record is None else replace(arm, label=record.label, seed=record.seed, loss=record.loss)


def _shared_record(folds: Mapping[int, Path]) -> TrainingRecord | None:
    """Return the record of any fold, or None if no fold was trained by a trainer of this package."""
    records = {fold: record for fold, path in folds.items() if (record := read_training_record(path)) is not None}
    if not records:
        return None
    first_fold, first = next(iter(records.items()))
    for fold, record in records.items():
        if (record.loss, record.label, record.seed) != (first.loss, first.label, first.seed):
            raise RecordError(
                folds[fold] / NAME,
                f"was trained with {record.label} and seed {record.seed}, but fold {first_fold} with {first.label} and "
                f"seed {first.seed}",
                "train all folds with one trainer",
            )
    return first


def _labeled(arms: Sequence[ArmFolder]) -> list[ArmFolder]:
    """Return the arms named by the parts in which they differ, or by the loss or the trainer."""
    differing = [len({arm.parts[index] for arm in arms}) > 1 for index in range(3)]
    chosen = differing if any(differing) else [True, False, False]
    trainers = {arm.trainer for arm in arms}
    known = {(arm.label or arm.trainer, arm.trainer) for arm in arms}
    # Two trainers may have one label, e.g. with different numbers of epochs.
    named_by_loss = len(known) == len(trainers) == len({label for label, _ in known})
    return [
        replace(
            arm, label="__".join(part for part, used in zip(_names(arm, named_by_loss), chosen, strict=True) if used)
        )
        for arm in arms
    ]


def _names(arm: ArmFolder, named_by_loss: bool) -> tuple[str, str, str]:
    """Return the parts of an arm's label: its loss or its trainer, plans and configuration."""
    return (arm.label if named_by_loss and arm.label else arm.trainer), arm.plans, arm.configuration
