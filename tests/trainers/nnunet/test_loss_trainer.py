"""Tiny trainings by nnU-Net itself: paired across losses, resumed, compared; regions and an ignore label."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nnunet_runs import DATASET, model, name_of, preparation, run_steps, training, write_raw
from typer.testing import CliRunner

from pipeline.cli.app import build_app
from pipeline.errors import TrainingError
from pipeline.losses import parse_losses
from pipeline.trainers.nnunet.child import run_child
from pipeline.trainers.nnunet.process import TrainTask
from pipeline.trainers.nnunet.records import read_results
from pipeline.trainers.nnunet.results import find_arms
from pipeline.trainers.nnunet.trainer import CPU_VARIABLES
from pipeline.trainers.nnunet.trainer_files import write_trainers
from pipeline.trainers.nnunet.training_record import TrainingRecord, read_training_record
from pipeline.trainers.nnunet.workspace import Workspace

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")

LOSSES = ("ce", "dice", "dice_ce", "weighted_ce", "tversky", "topk_ce", "boundary")
EPOCHS, ITERATIONS = 2, 4


def trainer(name: str) -> str:
    return f"nnUNetTrainer_{name}"


def record_of(folder: Path) -> TrainingRecord:
    record = read_training_record(folder / "fold_0")
    assert record is not None
    return record


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "fold_0" / "progress.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def without_times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if "timestamps" not in name} for row in rows]


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    content: dict[str, Any] = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    found: Mapping[str, torch.Tensor] = content["network_weights"]
    return found


def same_weights(first: Path, second: Path) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))


@pytest.fixture(scope="module")
def root(trained: tuple[Path, str]) -> Path:
    return trained[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return trainings of every loss, of a second seed, resumed and with two processes, and what nnU-Net printed."""
    root = tmp_path_factory.mktemp("nnunet")
    write_raw(root)
    write_trainers(parse_losses(",".join(LOSSES)), [0, 1], root / "trainers", EPOCHS, ITERATIONS)
    resumed, two, flat = ({"nnUNet_results": str(root / name)} for name in ("resumed", "two", "flat"))
    image = next((root / "raw" / name_of(DATASET) / "imagesTr").iterdir())
    lost = model(root, trainer("ce"), results="lost") / "fold_0" / "segloss.json"
    elsewhere = {"nnUNet_results": str(root / "lost")}
    output = run_steps(
        root,
        [
            preparation("3d_fullres", "2d"),
            *(training(trainer(name)) for name in LOSSES),
            training(trainer("ce_seed1")),
            training(trainer("boundary"), check=False, stop=1, environment=resumed),
            training(trainer("boundary"), check=False, resume=True, environment=resumed),
            training(trainer("dice_ce"), check=False, environment=two | {"nnUNet_n_proc_DA": "2"}),
            training(trainer("dice_ce"), "2d", check=False, environment=flat),
            training(trainer("ce"), check=False, stop=1, environment=elsewhere),
            ("remove", {"path": str(lost)}),
            ("refuse", training(trainer("ce"), resume=True, environment=elsewhere)[1]),
            ("validate", {"dataset": DATASET, "configuration": "3d_fullres", "trainer": trainer("dice")}),
            ("predict", {"model": str(model(root, trainer("ce"))), "image": str(image), "output": str(root / "mask")}),
        ],
    )
    return root, output


def test_trainings_of_one_seed_share_initial_weights_and_batches(root: Path) -> None:
    records = [record_of(model(root, trainer(name))) for name in LOSSES]
    assert len({record.initial_weights_hash for record in records}) == 1
    assert len({record.feed_hash for record in records}) == 1
    assert all(len(set(record.batch_hashes)) == EPOCHS for record in records)
    assert [record.label for record in records] == list(LOSSES)


def test_another_seed_has_other_initial_weights_and_batches(root: Path) -> None:
    first, second = (record_of(model(root, trainer(name))) for name in ("ce", "ce_seed1"))
    assert (first.label, first.seed, second.label, second.seed) == ("ce", 0, "ce", 1)
    assert first.initial_weights_hash != second.initial_weights_hash
    assert not set(first.batch_hashes) & set(second.batch_hashes)


def test_losses_train_to_different_weights(root: Path) -> None:
    folders = [model(root, trainer(name)) for name in (*LOSSES, "ce_seed1")]
    assert not any(same_weights(a, b) for i, a in enumerate(folders) for b in folders[:i])


def test_a_resumed_training_is_the_uninterrupted_one(root: Path) -> None:
    whole, resumed = model(root, trainer("boundary")), model(root, trainer("boundary"), results="resumed")
    assert record_of(resumed) == record_of(whole)
    assert without_times(curve(resumed)) == without_times(curve(whole))
    assert same_weights(resumed, whole)


def test_a_training_without_its_record_is_not_resumed(trained: tuple[Path, str]) -> None:
    assert "refused by RecordError" in trained[1]
    assert "segloss.json: does not reach epoch 1 of the checkpoint; start the training again without --c" in trained[1]


def test_batches_do_not_depend_on_the_number_of_processes(root: Path) -> None:
    one, two = model(root, trainer("dice_ce")), model(root, trainer("dice_ce"), results="two")
    assert record_of(two) == record_of(one)
    assert without_times(curve(two)) == without_times(curve(one))


def test_curves_have_a_row_for_each_epoch(root: Path) -> None:
    rows = curve(model(root, trainer("tversky")))
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(0 < row["train_losses"] < 1 and 0 < row["val_losses"] < 1 for row in rows)
    assert all(row["epoch_end_timestamps"] > row["epoch_start_timestamps"] for row in rows)


def test_class_voxels_are_those_of_the_references(root: Path) -> None:
    folder = root / "preprocessed" / name_of(DATASET)
    stored = json.loads((folder / "segloss_class_voxels.json").read_text())
    assert set(stored) == {f"phantom_{index:03d}" for index in range(6)}
    for case, entry in stored.items():
        label = np.asarray(nibabel.load(folder / "gt_segmentations" / f"{case}.nii.gz").dataobj)
        assert entry["voxels"] == {str(value): int((label == value).sum()) for value in range(4)}


def test_validation_and_prediction_find_the_trainer(root: Path) -> None:
    assert (model(root, trainer("dice")) / "fold_0" / "validation" / "summary.json").exists()
    assert nibabel.load(root / "mask.nii.gz").shape


def test_two_dimensions_train(root: Path) -> None:
    flat = model(root, trainer("dice_ce"), "2d", results="flat")
    assert len(curve(flat)) == EPOCHS
    assert record_of(flat).feed_hash != record_of(model(root, trainer("dice_ce"))).feed_hash


def test_the_results_end_in_a_verdict(root: Path) -> None:
    results = root / "results" / name_of(DATASET)
    arguments = ["compare", str(results), "--training-sd", "0.01", "--json", "--out", str(root / "out")]
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] in ("winner", "equivalent", "inconclusive")
    assert {pair[side] for pair in verdict["pairs"] for side in ("a", "b")} == set(LOSSES)
    assert (root / "out" / "report.html").exists()


def test_a_study_trains_in_a_child_process(root: Path, tmp_path: Path) -> None:
    work = Workspace(root, name_of(DATASET))
    environment = work.environment() | {"nnUNet_results": str(tmp_path), **CPU_VARIABLES}
    task = TrainTask(work.dataset, "3d_fullres", 0, trainer("ce"), "nnUNetPlans", "begin", "cpu", 1)
    lines: list[str] = []
    run_child(task, environment, tmp_path / "nnunet.log", lines.append)
    results = tmp_path / work.dataset / model(root, trainer("ce")).name
    assert record_of(results) == record_of(model(root, trainer("ce")))
    assert (results / "fold_0" / "validation" / "summary.json").exists()
    assert "".join(lines) == (tmp_path / "nnunet.log").read_text(encoding="utf-8")


def test_a_failure_of_the_child_process_is_one_line(root: Path, tmp_path: Path) -> None:
    task = TrainTask(name_of(DATASET), "3d_fullres", 0, "nnUNetTrainer_nowhere", "nnUNetPlans", "begin", "cpu", 1)
    with pytest.raises(TrainingError, match=r"nnunet.log: nnU-Net failed \(.*\); read the end of this file") as failure:
        run_child(task, Workspace(root, task.dataset).environment(), tmp_path / "nnunet.log", lambda line: None)
    assert "\n" not in str(failure.value)


def test_scores_of_the_held_out_cases_are_read(root: Path) -> None:
    found = read_results(find_arms([root / "results" / name_of(DATASET)]))
    assert {arm.spec for arm in found.arms} == set(LOSSES)
    trained = sorted((training.key.loss, training.key.seed) for training in found.trainings)
    assert trained == sorted([*((name, 0) for name in LOSSES), ("ce", 1)])
    assert all(training.cases == ("phantom_006", "phantom_007") for training in found.trainings)


REGIONS = {"background": 0, "head": [1, 2, 3], "small": [2, 3], "lesions": 3}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return trainings with regions (998), an ignore label (997) and both (996), and what nnU-Net printed."""
    root = tmp_path_factory.mktemp("others")
    ignore = {"background": 0, "deep_grey": 1, "nucleus": 2, "ignore": 3}
    both = {"background": 0, "head": [1, 2], "nucleus": 2, "ignore": 3}
    write_raw(root, REGIONS, 998, cases=4, regions_class_order=[1, 2, 3])
    write_raw(root, ignore, 997, cases=4)
    write_raw(root, both, 996, cases=4, regions_class_order=[1, 2])
    write_trainers(parse_losses("dice_weighted_ce,boundary"), [0], root / "trainers", EPOCHS, ITERATIONS)
    steps = [
        step
        for dataset in (998, 997, 996)
        for step in (
            preparation("3d_fullres", dataset=dataset),
            training(trainer("dice_weighted_ce"), dataset=dataset, check=dataset == 998),
        )
    ]
    steps.append(training(trainer("boundary"), dataset=998, check=False))
    steps.append(("refuse", {"dataset": 997, "configuration": "3d_fullres", "trainer": trainer("boundary")}))
    return root, run_steps(root, steps)


@pytest.mark.parametrize("dataset", [998, 997, 996])
def test_regions_and_ignored_voxels_train(others: tuple[Path, str], dataset: int) -> None:
    first, last = curve(model(others[0], trainer("dice_weighted_ce"), dataset=dataset))
    assert first["train_losses"] != last["train_losses"]
    assert all(np.isfinite(list(row.values())).all() for row in (first, last))


def test_regions_are_classes_of_the_results(others: tuple[Path, str]) -> None:
    arms = find_arms([model(others[0], trainer("dice_weighted_ce"), dataset=998)])
    (result,) = read_results(arms).trainings
    assert set(result.table["class"]) == {"head", "small", "lesions"}


def test_a_loss_of_distances_trains_regions(others: tuple[Path, str]) -> None:
    assert len(curve(model(others[0], trainer("boundary"), dataset=998))) == EPOCHS


def test_a_loss_of_distances_is_refused_before_training_with_an_ignore_label(others: tuple[Path, str]) -> None:
    folder, output = others
    assert "refused by ConfigError: loss boundary: uses positions or distances of voxels" in output
    assert not (model(folder, trainer("boundary"), dataset=997) / "fold_0" / "segloss.json").exists()
