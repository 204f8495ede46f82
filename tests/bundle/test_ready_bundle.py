"""``bundles/segmentation_3d``: trains, evaluates and infers with MONAI alone."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from monai.handlers import HausdorffDistance

from pipeline.bundle.losses import LOSSES
from pipeline.bundle.ready import ready_configs
from pipeline.bundle.training_configs import METRICS, loss_override
from pipeline.metrics.panel import evaluate_case
from pipeline.training.losses import build_loss, parse_losses

READY = Path(__file__).parents[2] / "bundles/segmentation_3d"
SPACING = (2.0, 1.0, 1.5)


def test_stored_configurations_are_those_that_are_generated():
    for name, content in ready_configs().items():
        assert json.loads((READY / "configs" / f"{name}.json").read_text()) == json.loads(json.dumps(content)), name


def test_nothing_in_it_imports_this_package():
    for path in READY.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".conf"):
            assert "pipeline" not in path.read_text()
    assert not list(READY.rglob("*.py"))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_that_of_a_study(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, 6, generator=generator)
    label = torch.randint(0, 3, (2, 1, 6, 6, 6), generator=generator).float()
    weights = [0.2, 1.0, 3.0] if loss == "weighted_ce" else [1.0, 1.0, 1.0]
    top = {"num_classes": 3, "device": torch.device("cpu"), "class_weights": weights}
    ours = f"weighted_ce{{weights={weights}}}" if loss == "weighted_ce" else loss
    config = loss_override(loss) | ({"class_weights": weights} if "weighted" in loss else {})
    found = ConfigParser(top | config).get_parsed_content("loss")(logits, label)
    expected = build_loss(parse_losses(ours)[0], (100, 100, 100))(logits, label)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def boxes():
    """Pairs of (prediction, reference) of one class on a grid of 2 x 1 x 1.5 mm."""
    reference = np.zeros((12, 14, 10), np.uint8)
    reference[3:7, 4:9, 2:6] = 1
    moved = np.roll(reference, (2, 1, -1), (0, 1, 2))
    empty = np.zeros_like(reference)
    return {"moved": (moved, reference), "missed": (empty, reference), "invented": (moved, empty)}


@pytest.mark.parametrize("name", boxes())
@pytest.mark.parametrize("metric", METRICS)
def test_validation_metrics_are_those_of_a_study_in_mm(metric, name):
    from monai.data import MetaTensor

    prediction, reference = boxes()[name]
    affine = torch.diag(torch.tensor([*SPACING, 1.0]))
    pred, label = (
        MetaTensor(torch.from_numpy(np.stack([mask == 0, mask == 1]).astype(np.float32)), affine=affine)[None]
        for mask in (prediction, reference)
    )
    handler = {"_target_": "IgniteMetricHandler", "loss_fn": METRICS[metric]}
    found = ConfigParser({"m": handler}).get_parsed_content("m")
    found.metric_fn([pred[0]], [label[0]])
    scores = evaluate_case("x", reference, prediction, SPACING, {1: "box"}, metrics=(metric,))
    assert float(found.metric_fn.aggregate()) == pytest.approx(scores[0].value, rel=1e-5)


def test_a_correct_absence_is_undefined_and_left_out_of_the_mean():
    empty = torch.stack([torch.ones(4, 4, 4), torch.zeros(4, 4, 4)])
    full = torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])
    found = ConfigParser({"m": {"_target_": "IgniteMetricHandler", "loss_fn": METRICS["dice"]}}).get_parsed_content("m")
    from monai.data import MetaTensor

    for mask in (empty, full):
        found.metric_fn([MetaTensor(mask)], [MetaTensor(mask)])
    assert float(found.metric_fn.aggregate()) == 1.0
    assert torch.isnan(found.metric_fn.get_buffer()).sum() == 1


def test_monais_own_handler_gives_voxels():
    prediction, reference = boxes()["moved"]
    pred, label = (
        torch.from_numpy(np.stack([m == 0, m == 1]).astype(np.float32))[None] for m in (prediction, reference)
    )
    handler = HausdorffDistance()
    handler.metric_fn(pred, label)
    voxels = float(handler.metric_fn.aggregate())
    assert voxels == pytest.approx(np.sqrt(2**2 + 1**2 + 1**2))
    in_mm = evaluate_case("x", reference, prediction, SPACING, {1: "box"}, metrics=("hausdorff_mm",))[0].value
    assert in_mm == pytest.approx(np.sqrt(4**2 + 1**2 + 1.5**2))


@pytest.fixture
def phantoms(tmp_path):
    root = tmp_path / "bundle"
    shutil.copytree(READY, root)
    for index in range(4):
        random = np.random.default_rng(index)
        shape = (14, 16, 12 + index)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        label = (np.linalg.norm(grid - np.asarray(shape) / 2, axis=-1) < 4).astype(np.uint8)
        image = (label + 0.3 * random.standard_normal(shape)).astype(np.float32)
        for folder, data in (("imagesTr", image), ("labelsTr", label), ("imagesTs", image)):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.diag([*SPACING, 1.0])), root / "data" / folder / f"c{index}.nii.gz")
    return root


SMALL = {
    "patch": [16, 16, 16],
    "folds": 2,
    "network_def::filters": [4, 8, 16, 32],
}


def config_files(root, *names):
    return [str(root / "configs" / f"{name}.json") for name in names]


def test_it_trains_evaluates_and_infers_and_tracks_dice_and_hausdorff(phantoms, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    common = {"bundle_root": str(phantoms), "logging_file": False, **SMALL}
    training = {"train::trainer::max_epochs": 3, "val_interval": 1, "patches_per_case": 1, "learning_rate": 0.01}
    tracking = str(phantoms / "configs/tracking_mlflow.json")
    run(config_file=config_files(phantoms, "train", "loss_dice"), tracking=tracking, **common, **training)
    state = torch.load(phantoms / "models/model.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())

    client = mlflow.MlflowClient(f"sqlite:///{phantoms}/eval/mlruns.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "segmentation_3d"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_name.startswith("dice s0 f0 ")
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["loss"] == "dice"
    assert tracked.data.params["learning_rate"] == "0.01"
    for metric in ("val_dice", "val_hausdorff_mm", "val_hausdorff95_mm", "train_dice"):
        assert len(client.get_metric_history(tracked.info.run_id, metric)) == 3
    diagonal = np.linalg.norm(np.multiply((28, 16, 23), 1.0))
    assert 0 < tracked.data.metrics["val_hausdorff_mm"] <= diagonal

    run(config_file=config_files(phantoms, "evaluate"), tracking=tracking, workflow_type="infer", **common)
    with (phantoms / "eval/val_dice_raw.csv").open() as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert len(rows) == 3
    tracked_runs = client.search_runs([experiment.experiment_id])
    assert {r.info.status for r in tracked_runs} == {"FINISHED"}
    assert len(tracked_runs) == 2

    inference = {"patch": SMALL["patch"], "network_def::filters": SMALL["network_def::filters"]}
    run(config_file=config_files(phantoms, "inference"), workflow_type="infer", bundle_root=str(phantoms),
        logging_file=False, **inference)  # fmt: skip
    for index in range(4):
        mask = nib.load(phantoms / f"predictions/c{index}_seg.nii.gz")
        image = nib.load(phantoms / f"data/imagesTs/c{index}.nii.gz")
        assert mask.shape == image.shape
        assert np.allclose(mask.affine, image.affine)
        assert mask.get_data_dtype() == np.uint8


@pytest.mark.slow
def test_two_processes_train_one_network(phantoms):
    overrides = [f"--{name}={value}" for name, value in SMALL.items()]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611",
         "-m", "monai.bundle", "run", "--config_file", "['configs/train.json','configs/multi_gpu_train.json']",
         "--train::trainer::max_epochs=2", "--val_interval=1", "--patches_per_case=1", *overrides],
        cwd=phantoms, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (phantoms / "models/model.pt").exists()
    with (phantoms / "eval/val_hausdorff_mm_raw.csv").open() as stream:
        assert len(list(csv.reader(stream, delimiter="\t"))) == 3
