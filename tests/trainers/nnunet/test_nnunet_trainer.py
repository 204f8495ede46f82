"""nnU-Net as the trainer of a study, with a stand-in for its processes; `test_nnunet_study` trains for real."""

import json
import os

import nibabel as nib
import numpy as np
import pytest

from pipeline.data.dataset import Case, Dataset
from pipeline.data.folds import Fold
from pipeline.errors import ConfigError
from pipeline.losses import parse_losses
from pipeline.records.events import TrainEvent, read_events
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.run import read_run
from pipeline.records.tolerance import Tolerance
from pipeline.trainers.masks import StudyInputs, TrainerOptions
from pipeline.trainers.nnunet import trainer as module
from pipeline.trainers.nnunet.process import PlanTask, TrainTask
from pipeline.trainers.nnunet.trainer import NnunetTrainer
from pipeline.trainers.nnunet.training_record import TrainingRecord, write_training_record
from pipeline.trainers.trainer import Run

PLANNED = {"3d_fullres": {"spacing": [1.0, 1.0, 1.5], "patch_size": [8, 8, 8], "batch_size": 2}}


class Processes:
    """Stand-in for `run_child` that leaves what nnU-Net leaves; `stops` ends a training before its validation."""

    def __init__(self):
        self.tasks, self.environments, self.stops = [], [], False

    def __call__(self, task, environment, log, on_line):
        self.tasks.append(task)
        self.environments.append(environment)
        (self.plan if isinstance(task, PlanTask) else self.train)(task, environment, on_line)

    def plan(self, task, environment, on_line):
        (folder,) = os.listdir(environment["nnUNet_raw"])
        target = os.path.join(environment["nnUNet_preprocessed"], folder)
        os.makedirs(target)
        with open(os.path.join(target, f"{task.plans}.json"), "w") as stream:
            json.dump({"configurations": PLANNED}, stream)

    def train(self, task, environment, on_line):
        from pathlib import Path

        arm = f"{task.trainer}__{task.plans}__{task.configuration}"
        folder = Path(environment["nnUNet_results"]) / task.dataset / arm / f"fold_{task.fold}"
        (folder / "validation").mkdir(parents=True, exist_ok=True)
        record = TrainingRecord(
            loss="dice", label="dice", seed=0, fold=task.fold, initial_weights_hash="w", iterations=4, epochs=2
        )
        write_training_record(folder, record)
        lines = ["epoch,train_losses,epoch_start_timestamps,epoch_end_timestamps", "0,0.7,10,12", "1,0.5,20,23"]
        (folder / "progress.csv").write_text("\n".join(lines))
        on_line("2026-01-01 00:00:00.0: Epoch 1\n")
        if self.stops:
            (folder / "checkpoint_latest.pth").touch()
            raise MemoryError("stopped")
        (folder / "checkpoint_final.pth").touch()
        (folder / "checkpoint_best.pth").touch()
        for case in HELD_OUT:
            on_line(f"2026-01-01 00:00:00.0: predicting {case}\n")
            save(folder / "validation" / f"{case}.nii.gz", (label() > 0).astype(np.uint8))
        (folder / "validation" / "summary.json").write_text("{}")


HELD_OUT = ("c", "d")


def label():
    voxels = np.zeros((10, 10, 10), np.uint8)
    voxels[2:6, 2:6, 2:6] = 7
    return voxels


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path


@pytest.fixture
def processes(monkeypatch):
    pytest.importorskip("nnunetv2")
    stand_in = Processes()
    monkeypatch.setattr(module, "run_child", stand_in)
    monkeypatch.setattr(module, "version", lambda name: "0")
    return stand_in


@pytest.fixture
def inputs(tmp_path, plan):
    cases = tuple(
        Case(
            name,
            (save(tmp_path / "images" / f"{name}.nii.gz", np.ones((10, 10, 10), np.float32)),),
            save(tmp_path / "labels" / f"{name}.nii.gz", label()),
            name,
        )
        for name in "abcd"
    )
    dataset = Dataset("heart", tmp_path, "list", ("MRI",), {0: "background", 7: "heart"}, cases)
    folds = (Fold(1, ("a", "b"), ("a", "b")), Fold(2, HELD_OUT, HELD_OUT))
    options = TrainerOptions(budget="8steps")
    return StudyInputs(dataset, folds, parse_losses("dice"), (0,), plan, tmp_path / "trainer", options)


@pytest.fixture
def run(tmp_path, inputs):
    cases = inputs.dataset.cases
    folder = RunFolder(tmp_path / "run", RunKey("dice", 2, 0))
    return Run(folder, inputs.arms[0], {7: "heart"}, (9, 1), cases[:2], cases[2:], Tolerance(1.0))


def prepared(inputs):
    return NnunetTrainer.prepare(inputs, lambda *step: None)


def test_planning_happens_once_and_again_if_the_request_changes(inputs, processes):
    trainer = prepared(inputs)
    prepared(inputs)
    assert [type(task) for task in processes.tasks] == [PlanTask]
    assert trainer.conditions.steps == 8
    assert trainer.conditions.plan.patch == (8, 8, 8)
    assert json.loads((trainer.workspace.preprocessed / "splits_final.json").read_text())[1]["val"] == ["c", "d"]


def test_a_run_is_trained_scored_and_recorded_with_its_curve(inputs, processes, run):
    steps = []
    prepared(inputs).carry_out(run, lambda *step: steps.append(step))
    task = processes.tasks[-1]
    assert isinstance(task, TrainTask)
    assert (task.trainer, task.fold, task.mode) == ("nnUNetTrainer_dice", 1, "begin")
    record = read_run(run.folder)
    assert (record.mean_dice, record.steps, record.training_seconds) == (1.0, 8, 5.0)
    assert record.initial_weights_hash == "w"
    losses = [(event.step, event.loss) for event in read_events(run.folder.events) if isinstance(event, TrainEvent)]
    assert losses == [(4, 0.7), (8, 0.5)]
    assert ("training", 1, 2) in steps
    assert ("prediction", 2, 2) in steps
    assert set(np.unique(nib.load(run.folder.predictions / "c.nii.gz").get_fdata())) == {0, 7}


def test_files_that_nothing_uses_are_removed_after_the_record(inputs, processes, run):
    trainer = prepared(inputs)
    trainer.carry_out(run, lambda *step: None)
    (folder,) = trainer.workspace.results.glob("*/fold_1")
    assert not list((folder / "validation").glob("*.nii.gz"))
    assert sorted(path.name for path in folder.glob("*.pth")) == ["checkpoint_final.pth"]


def test_a_stopped_training_continues_from_its_checkpoint(inputs, processes, run):
    trainer = prepared(inputs)
    processes.stops = True
    with pytest.raises(MemoryError):
        trainer.carry_out(run, lambda *step: None)
    assert not run.folder.record.exists()
    processes.stops = False
    trainer.carry_out(run, lambda *step: None)
    assert [task.mode for task in processes.tasks[1:]] == ["begin", "continue"]


def test_a_finished_training_is_only_validated_if_masks_are_missing(inputs, processes, run):
    trainer = prepared(inputs)
    trainer.carry_out(run, lambda *step: None)
    run.folder.record.unlink()
    trainer.carry_out(run, lambda *step: None)
    assert [task.mode for task in processes.tasks[1:]] == ["begin", "validate"]


def test_variables_of_the_user_are_kept_on_a_cpu(inputs, processes, run, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    prepared(inputs).carry_out(run, lambda *step: None)
    used = processes.environments[-1]
    assert (used["nnUNet_n_proc_DA"], used["nnUNet_compile"]) == ("3", "f")
    assert used["nnUNet_extTrainer"] == str(inputs.workspace / "trainers")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TrainerOptions(budget="8steps", configuration="4d"), "--configuration 4d: is not a configuration; choose"),
        (TrainerOptions(budget="8steps", plans="mine"), "--plans mine: are unknown plans; choose from nnUNetPlans"),
        (TrainerOptions(budget="300s"), "--budget 300s: must be epochs"),
        (
            TrainerOptions(budget="8steps", configuration="3d_lowres"),
            "is not planned by nnU-Net for this dataset; choose from 3d_fullres",
        ),
    ],
)
def test_requests_that_nnunet_cannot_carry_out_are_one_line(inputs, processes, options, words):
    from dataclasses import replace

    with pytest.raises(ConfigError, match=words):
        prepared(replace(inputs, options=options))


def test_without_nnunet_one_line_says_how_to_install_it(monkeypatch):
    from pipeline.trainers.nnunet import request

    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--trainer nnunet: needs nnU-Net v2; pip install 'whichloss\[nnunet\]'"):
        request.check_request("2d", "nnUNetPlans")
