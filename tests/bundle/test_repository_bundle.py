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

from pipeline.bundle.losses import LOSSES, loss_settings
from pipeline.bundle.metric_expressions import METRIC_EXPRESSIONS
from pipeline.bundle.repository_bundle import repository_configs
from pipeline.losses import build_loss, parse_losses
from pipeline.metrics.panel import PanelSettings, evaluate_case

REPOSITORY_BUNDLE = Path(__file__).parents[2] / "bundles/segmentation_3d"
SPACING = (2.0, 1.0, 1.5)


def test_stored_configurations_are_those_that_are_generated():
    for name, content in repository_configs().items():
        assert json.loads((REPOSITORY_BUNDLE / "configs" / f"{name}.json").read_text()) == json.loads(
            json.dumps(content)
        ), name


def test_nothing_in_it_imports_this_package():
    for path in REPOSITORY_BUNDLE.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".conf"):
            assert "pipeline" not in path.read_text()
    assert not list(REPOSITORY_BUNDLE.rglob("*.py"))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_that_of_a_study(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, 6, generator=generator)
    label = torch.randint(0, 3, (2, 1, 6, 6, 6), generator=generator).float()
    weights = [0.2, 1.0, 3.0] if loss == "weighted_ce" else [1.0, 1.0, 1.0]
    top = {"num_classes": 3, "device": torch.device("cpu"), "class_weights": weights}
    ours = f"weighted_ce{{weights={weights}}}" if loss == "weighted_ce" else loss
    config = loss_settings(loss, weights)
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
@pytest.mark.parametrize("metric", METRIC_EXPRESSIONS)
def test_validation_metrics_are_those_of_a_study_in_mm(metric, name):
    from monai.data import MetaTensor

    prediction, reference = boxes()[name]
    affine = torch.diag(torch.tensor([*SPACING, 1.0]))
    pred, label = (
        MetaTensor(torch.from_numpy(np.stack([mask == 0, mask == 1]).astype(np.float32)), affine=affine)[None]
        for mask in (prediction, reference)
    )
    handler = {"_target_": "IgniteMetricHandler", "loss_fn": METRIC_EXPRESSIONS[metric]}
    found = ConfigParser({"m": handler}).get_parsed_content("m")
    found.metric_fn([pred[0]], [label[0]])
    scores = evaluate_case("x", reference, prediction, SPACING, PanelSettings({1: "box"}, metrics=(metric,)))
    assert float(found.metric_fn.aggregate()) == pytest.approx(scores[0].value, rel=1e-5)


def test_a_correct_absence_is_undefined_and_left_out_of_the_mean():
    empty = torch.stack([torch.ones(4, 4, 4), torch.zeros(4, 4, 4)])
    full = torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])
    handler = {"_target_": "IgniteMetricHandler", "loss_fn": METRIC_EXPRESSIONS["dice"]}
    found = ConfigParser({"m": handler}).get_parsed_content("m")
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
    in_mm = evaluate_case("x", reference, prediction, SPACING, PanelSettings({1: "box"}, metrics=("hausdorff_mm",)))[
        0
    ].value
    assert in_mm == pytest.approx(np.sqrt(4**2 + 1**2 + 1.5**2))


def phantom_bundle(root, cases=4, vary=True):
    """Copy the bundle to `root` with phantoms as its data; with `vary` they differ in size."""
    shutil.copytree(REPOSITORY_BUNDLE, root)
    for index in range(cases):
        random = np.random.default_rng(index)
        shape = (14, 16, 12 + index * vary)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        label = (np.linalg.norm(grid - np.asarray(shape) / 2, axis=-1) < 4).astype(np.uint8)
        image = (label + 0.3 * random.standard_normal(shape)).astype(np.float32)
        for folder, data in (("imagesTr", image), ("labelsTr", label), ("imagesTs", image)):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.diag([*SPACING, 1.0])), root / "data" / folder / f"c{index}.nii.gz")
    return root


@pytest.fixture
def phantoms(tmp_path):
    return phantom_bundle(tmp_path / "bundle")


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

    client = mlflow.MlflowClient(f"sqlite:///{phantoms}_eval/mlruns.db")
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
    with Path(f"{phantoms}_eval/val_dice_raw.csv").open() as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert len(rows) == 3
    tracked_runs = client.search_runs([experiment.experiment_id])
    assert {r.info.status for r in tracked_runs} == {"FINISHED"}
    assert len(tracked_runs) == 2

    inference = {"patch": SMALL["patch"], "network_def::filters": SMALL["network_def::filters"]}
    run(config_file=config_files(phantoms, "inference"), workflow_type="infer", bundle_root=str(phantoms),
        logging_file=False, **inference)  # fmt: skip
    for index in range(4):
        mask = nib.load(f"{phantoms}_predictions/c{index}_seg.nii.gz")
        image = nib.load(phantoms / f"data/imagesTs/c{index}.nii.gz")
        assert mask.shape == image.shape
        assert np.allclose(mask.affine, image.affine)
        assert mask.get_data_dtype() == np.uint8


CURVE = """
import json
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents

class LossCurve:
    def __init__(self, path):
        self.path, self.losses, self.world = path, [], torch.distributed.is_initialized()

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.note)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def note(self, engine):
        self.batch = len(engine.state.batch["image"])
        loss = engine.state.output["loss"].detach().clone()
        if self.world:
            torch.distributed.all_reduce(loss)
            loss /= torch.distributed.get_world_size()
        self.losses.append(float(loss))

    def write(self, engine):
        if not self.world or torch.distributed.get_rank() == 0:
            reported = engine.state.metrics["train_mean_loss"]
            with open(self.path, "w") as stream:
                json.dump({"losses": self.losses, "reported": reported, "batch": self.batch}, stream)
"""

WITHOUT_CHANCE = {
    "train::random": [{"_target_": "CenterSpatialCropd", "keys": ["image", "label"], "roi_size": "@patch"}],
    "train::dataloader::shuffle": False,
    "+train::handlers": [{"_target_": "losscurve.LossCurve", "path": "$@output_dir + '/curve.json'"}],
}


@pytest.fixture(scope="module")
def trained_alone_and_together(tmp_path_factory):
    """The folders of one process with batches of two, and of two processes with batches of one, on the same data."""
    folders = {}
    for processes in (1, 2):
        root = phantom_bundle(tmp_path_factory.mktemp("repository") / f"processes_{processes}", cases=6, vary=False)
        (root / "losscurve.py").write_text(CURVE)
        without_chance = dict(WITHOUT_CHANCE)
        names = ["train", "without_chance"]
        starting = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
        if processes > 1:
            without_chance["train::sampler::shuffle"] = without_chance.pop("train::dataloader::shuffle")
            names.insert(1, "multi_gpu_train")
            starting[3:4] = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
        (root / "configs/without_chance.json").write_text(json.dumps(without_chance))
        settings = SMALL | {"folds": 3, "learning_rate": 0.01, "batch_size": 2 // processes, "patches_per_case": 1}
        settings |= {"train::trainer::max_epochs": 4, "val_interval": 4}
        files = [f"configs/{name}.json" for name in names]
        result = subprocess.run(
            [*starting, "--config_file", str(files), *(f"--{name}={value}" for name, value in settings.items())],
            cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
            capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-3000:]
        folders[processes] = root
    return folders


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_with_the_same_global_batch(trained_alone_and_together):
    alone, together = (
        json.loads(Path(f"{root}_eval/curve.json").read_text()) for root in trained_alone_and_together.values()
    )
    assert (alone["batch"], together["batch"]) == (2, 1)
    assert len(alone["losses"]) == 4 * 2
    assert alone["losses"][-1] < 0.95 * alone["losses"][0]
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-4)
    for curve in (alone, together):
        assert curve["reported"] == pytest.approx(np.mean(curve["losses"][-2:]), rel=1e-5)


@pytest.mark.slow
def test_two_processes_leave_the_network_and_the_metrics_of_one(trained_alone_and_together):
    alone, together = (
        torch.load(root / "models/model.pt", weights_only=True) for root in trained_alone_and_together.values()
    )
    assert list(alone) == list(together)
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-2, atol=1e-3)
    tables = []
    for root in trained_alone_and_together.values():
        with Path(f"{root}_eval/val_dice_raw.csv").open() as stream:
            _, *rows = csv.reader(stream)
        assert [row[0].rsplit("/", 1)[-1] for row in rows] == ["c0.nii.gz", "c3.nii.gz"]
        tables.append([[float(value) for value in row[1:]] for row in rows])
    np.testing.assert_allclose(tables[1], tables[0], atol=1e-3)


@pytest.mark.slow
def test_each_process_draws_random_numbers_of_its_own(phantoms):
    draw = "$open('drawn%d' % torch.distributed.get_rank(), 'w').write(str(float(torch.rand(1))))"
    (phantoms / "configs/draw.json").write_text(json.dumps({"run": [draw]}))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
         "monai.bundle", "run", "--config_file",
         "['configs/train.json','configs/multi_gpu_train.json','configs/draw.json']"],
        cwd=phantoms, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert len({(phantoms / f"drawn{rank}").read_text() for rank in range(2)}) == 2
