"""Trainers that leave masks: what the base class makes of them."""

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
import pytest

from pipeline.data.dataset import Case
from pipeline.errors import TrainingError
from pipeline.losses import LossSpec
from pipeline.records.events import TrainEvent, read_events
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.run import read_run
from pipeline.records.table import read_table
from pipeline.records.tolerance import Tolerance
from pipeline.trainers.masks import Conditions, MaskTrainer, Trained
from pipeline.trainers.trainer import Run

CLASSES = {2: "large", 5: "small"}


@dataclass
class Copies(MaskTrainer):
    """A trainer whose masks are given; it counts its trainings."""

    trained: Trained
    keep: bool = True
    trainings: int = 0
    cleaned: int = 0

    @classmethod
    def prepare(cls, study, on_step):
        raise AssertionError("runs are carried out without preparation here")

    @property
    def conditions(self):
        return Conditions(trainer="copies", threads=3)

    @property
    def keeps_predictions(self):
        return self.keep

    def train(self, run, on_step):
        self.trainings += 1
        return self.trained

    def clean_up(self, run):
        assert run.folder.record.exists(), "files that a continued training needs are removed after the record"
        self.cleaned += 1


def save(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 1.0, 1.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.fixture
def label():
    voxels = np.zeros((12, 12, 10), np.uint8)
    voxels[2:8, 2:8, 2:8] = 2
    voxels[9:11, 9:11, 4:6] = 5
    return voxels


@pytest.fixture
def run(tmp_path, label):
    cases = tuple(Case(name, (), save(tmp_path / "labels" / f"{name}.nii.gz", label), name) for name in ("a", "b"))
    folder = RunFolder(tmp_path / "run", RunKey("dice", 1, 2))
    return Run(folder, LossSpec("dice"), CLASSES, (9, 2, 1), (), cases, Tolerance(1.0))


@pytest.fixture
def trained(tmp_path, label):
    """Masks of indices 0, 1, 2 for the values 0, 2, 5, which miss one voxel of the large structure."""
    indices = np.searchsorted([0, 2, 5], label).astype(np.uint8)
    indices[2, 2, 2] = 0
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.nii.gz", indices)
    return Trained(
        masks=tmp_path / "masks",
        label_values=(0, 2, 5),
        curve=(TrainEvent(step=4, loss=0.5),),
        steps=4,
        seconds=7.5,
        initial_weights_hash="w",
        feed_hash="f",
    )


def test_masks_are_scored_with_the_label_values_of_the_dataset(run, trained):
    steps = []
    trainer = Copies(trained)
    trainer.carry_out(run, lambda *step: steps.append(step))
    table = read_table(run.folder.cases)
    dice = table[table["metric"] == "dice"].set_index(["case", "class"])["value"]
    assert dice["a", "large"] == pytest.approx(2 * 215 / (216 + 215))
    assert dice["b", "small"] == 1
    assert set(table["loss"]) == {"dice"}
    assert set(table["fold"]) == {1}
    assert set(table["seed"]) == {2}
    stored = nib.load(run.folder.predictions / "a.nii.gz")
    assert set(np.unique(np.asarray(stored.dataobj))) == {0, 2, 5}
    assert steps == [("scoring", 1, 2), ("scoring", 2, 2)]
    assert trainer.cleaned == 1


def test_the_record_says_what_the_training_left(run, trained):
    Copies(trained).carry_out(run, lambda *step: None)
    record = read_run(run.folder)
    assert (record.loss, record.fold, record.seed, record.steps, record.threads) == ("dice", 1, 2, 4, 3)
    assert (record.initial_weights_hash, record.feed_hash, record.training_seconds) == ("w", "f", 7.5)
    assert (record.state, record.cases) == ("ok", ("a", "b"))
    assert record.mean_dice == pytest.approx((2 * 215 / 431 + 1) / 2)
    assert [event.step for event in read_events(run.folder.events)] == [4]


def test_a_run_with_a_record_is_not_repeated(run, trained):
    trainer = Copies(trained)
    trainer.carry_out(run, lambda *step: None)
    trainer.carry_out(run, lambda *step: None)
    assert trainer.trainings == 1


def test_a_class_that_is_never_predicted_is_a_collapse(run, trained, label):
    for name in ("a", "b"):
        save(trained.masks / f"{name}.nii.gz", (label == 2).astype(np.uint8))
    Copies(trained).carry_out(run, lambda *step: None)
    record = read_run(run.folder)
    assert (record.state, record.why) == ("collapsed", "never predicts small")
    table = read_table(run.folder.cases)
    assert set(table[table["class"] == "small"]["state"]) == {"collapsed"}
    assert set(table[table["class"] == "large"]["state"]) == {"ok"}


def test_masks_are_removed_if_they_are_not_wanted(run, trained):
    Copies(trained, keep=False).carry_out(run, lambda *step: None)
    assert not run.folder.predictions.exists()
    assert (trained.masks / "a.nii.gz").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda masks: (masks / "b.nii.gz").unlink(), "b.nii.gz: was not predicted"),
        (
            lambda masks: save(masks / "b.nii.gz", np.zeros((12, 12, 10), np.uint8), np.diag([9.0, 1.0, 1.0, 1.0])),
            "is not on the grid of its reference",
        ),
    ],
)
def test_masks_that_cannot_be_scored_are_one_line_and_no_record(run, trained, change, words):
    change(trained.masks)
    with pytest.raises(TrainingError, match=words):
        Copies(trained).carry_out(run, lambda *step: None)
    assert not run.folder.record.exists()


def test_values_of_the_dataset_need_no_table(run, trained, label):
    for name in ("a", "b"):
        save(trained.masks / f"{name}.nii.gz", label)
    Copies(replace(trained, label_values=None)).carry_out(run, lambda *step: None)
    assert read_run(run.folder).mean_dice == 1
