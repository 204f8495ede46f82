"""``segloss.json`` names the arm, and is checked where folds of an arm disagree."""

from pathlib import Path

import pytest
from fake_results import write_arm

from pipeline.errors import RecordError
from pipeline.trainers.nnunet.results import find_arms
from pipeline.trainers.nnunet.training_record import (
    NAME,
    TrainingRecord,
    read_training_record,
    write_training_record,
)


def record(
    label: str = "dice_ce", seed: int = 0, hashes: tuple[str, ...] = ("a", "b"), **others: object
) -> TrainingRecord:
    values = {"loss": label, "fold": 0, "initial_weights_hash": "w", "iterations": 250, "epochs": 1000, **others}
    return TrainingRecord(label=label, seed=seed, batch_hashes=hashes, **values)


def write_recorded_arm(dataset: Path, trainer: str, *records: TrainingRecord, plans: str = "nnUNetPlans") -> Path:
    arm = write_arm(dataset, trainer, folds=len(records), plans=plans)
    for fold, each in enumerate(records):
        write_training_record(arm / f"fold_{fold}", each)
    return arm


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_training_record(tmp_path, record())
    assert read_training_record(tmp_path) == record()
    assert read_training_record(tmp_path / "elsewhere") is None


def test_the_feed_hash_depends_on_every_epoch_and_their_order() -> None:
    hashes = [record(hashes=names).feed_hash for names in (("a", "b"), ("b", "a"), ("a",), ("ab",), ())]
    assert len(set(hashes)) == len(hashes)
    assert record(label="ce").feed_hash == record().feed_hash


def test_a_truncated_record_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"loss": "ce"')
    with pytest.raises(RecordError, match=rf"{tmp_path / NAME}: cannot be used"):
        read_training_record(tmp_path)


def test_arms_are_named_by_loss_and_seed_of_their_record(tmp_path: Path) -> None:
    tversky = record("tversky-alpha=0.3", loss="tversky{alpha=0.3}")
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce", record("ce"), record("ce"))
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce_seed1", record("ce", seed=1), record("ce", seed=1))
    write_recorded_arm(tmp_path, "nnUNetTrainer_tversky_alpha0p3", tversky, tversky)
    write_arm(tmp_path, "nnUNetTrainerDiceLoss")
    found = {(arm.label, arm.seed, arm.loss) for arm in find_arms([tmp_path])}
    assert found == {
        ("ce", 0, "ce"),
        ("ce", 1, "ce"),
        ("tversky-alpha=0.3", 0, "tversky{alpha=0.3}"),
        ("nnUNetTrainerDiceLoss", 0, None),
    }


def test_plans_are_added_where_they_differ(tmp_path: Path) -> None:
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce", record("ce"))
    write_recorded_arm(tmp_path, "nnUNetTrainer_dice", record("dice"), plans="nnUNetResEncUNetMPlans")
    assert [arm.label for arm in find_arms([tmp_path])] == ["ce__nnUNetPlans", "dice__nnUNetResEncUNetMPlans"]


def test_trainers_of_one_label_keep_their_own_names(tmp_path: Path) -> None:
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce", record("ce"))
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce_short", record("ce", epochs=10))
    assert [arm.label for arm in find_arms([tmp_path])] == ["nnUNetTrainer_ce", "nnUNetTrainer_ce_short"]


def test_folds_of_different_losses_are_no_arm(tmp_path: Path) -> None:
    write_recorded_arm(tmp_path, "nnUNetTrainer_ce", record("ce"), record("dice"))
    with pytest.raises(RecordError, match=r"fold_1/segloss.json: was trained with dice and seed 0, but fold 0 with ce"):
        find_arms([tmp_path])
