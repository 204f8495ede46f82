"""`segloss study` with a network, optimizer, schedule or weights of the user, from phantoms to a bundle's masks."""

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from pipeline.bundle.export import export_bundle
from pipeline.bundle.source import read_source
from pipeline.data.phantoms import make_phantoms
from pipeline.data.plan import Plan
from pipeline.errors import BundleError, ConfigError, RecordError
from pipeline.inference.request import PredictionRequest, predict
from pipeline.network.architecture import build_network
from pipeline.records.folder import StudyFolder
from pipeline.records.run import read_traces
from pipeline.records.study import read_study, run_folders
from pipeline.report.build import build_report
from pipeline.study.machine import TRIAL_STEPS, Machine, Workload, time_steps
from pipeline.study.progress import SilentProgress
from pipeline.study.recipes import run_recipes
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.training.optimizer_choice import OptimizerChoice
from pipeline.training.recipe import Recipe
from pipeline.training.recipe_parts import replace_parts

SEGRESNET = "SegResNet{init_filters=4,blocks_down=[1,1],blocks_up=[1],norm=INSTANCE}"
UNET = "monai.networks.nets.UNet{channels=[4,8],strides=[2],norm=batch,dropout=0.1}"


class Messages(SilentProgress):
    """Keep the lines of a study."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Phantoms whose structures are one class, which a network predicts after 20 steps."""
    root = tmp_path_factory.mktemp("phantoms") / "data"
    make_phantoms(root, cases=4, shape=(18, 16, 16), foreground_fraction=0.1)
    for path in (root / "labelsTr").iterdir():
        label = nib.load(path)
        nib.save(nib.Nifti1Image((np.asarray(label.dataobj) > 0).astype(np.uint8), label.affine), path)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"labels": {"0": "background", "1": "structure"}}))
    return root


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """The time of a step decides nothing in these tests."""
    machine = Machine("cpu", 1, 1, "float32", "asked for", 0.1)
    monkeypatch.setattr("pipeline.study.setups.measure_machine", lambda *_, **__: machine)


def request_of(data, out, **options):
    settings = {"losses": "dice", "folds": 2, "budget": "10steps", "learning_rates": (0.02,), "precision": "float32"}
    return StudyRequest(dataset=data, out=out, **settings | {"track": False} | options)


@pytest.fixture(scope="module")
def segresnet(phantoms, tmp_path_factory):
    request = request_of(phantoms, tmp_path_factory.mktemp("out") / "study", network=SEGRESNET, budget="20steps")
    messages = Messages()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.study.setups.measure_machine", lambda *_, **__: Machine("cpu", 1, 1, "float32", "", 1))
        study = run_study(request, messages, in_process=True)
    build_report(study)
    return request, study, messages.lines


def test_a_study_of_a_named_network_records_it_and_says_what_it_changes(segresnet):
    _, study, lines = segresnet
    record = read_study(study)
    assert record.recipe.name == f"fast with {SEGRESNET}"
    assert record.recipe.network == f"monai.networks.nets.{SEGRESNET}"
    assert record.plan.stem == (1, 1, 1)
    (line,) = [line for line in lines if line.startswith("network: ")]
    assert "at full resolution whatever the budget" in line
    assert "without CUDA graphs" in line
    verdict = json.loads(study.verdict.read_text())
    assert f"network monai.networks.nets.{SEGRESNET}" in verdict["scope"]["words"][0]
    assert "U-Net" not in verdict["scope"]["words"][0]
    weights = torch.load(next(iter(run_folders(study))).checkpoint, weights_only=True)["network"]
    assert "convInit.conv.weight" in weights


def test_it_is_exported_as_a_bundle_that_predicts(segresnet, phantoms, tmp_path):
    _, study, _ = segresnet
    exported = export_bundle(read_source(study, "dice"), tmp_path / "bundle")
    config = json.loads((exported.root / "configs" / "inference.json").read_text())
    assert config["network_def"]["_target_"] == "monai.networks.nets.SegResNet"
    card = (exported.root / "docs" / "README.md").read_text()
    assert "Network: monai.networks.nets.SegResNet" in card
    assert "pretrained" not in card
    predict(PredictionRequest(exported.root, phantoms / "imagesTr", tmp_path / "masks"))
    cases = json.loads((tmp_path / "masks" / "manifest.json").read_text())["cases"]
    assert [case["status"] for case in cases] == ["done"] * 4


def test_a_class_of_the_user_is_not_exported(segresnet, tmp_path):
    copy = StudyFolder(shutil.copytree(segresnet[1].root, tmp_path / "copy"))
    record = json.loads(copy.settings.read_text())
    record["recipe"]["network"] = "my_package.networks.MyNet"
    copy.settings.write_text(json.dumps(record))
    with pytest.raises(BundleError, match=r"--network my_package.networks.MyNet: is code that a bundle cannot hold"):
        export_bundle(read_source(copy, "dice"), tmp_path / "bundle")


def test_the_same_request_continues_it_and_repeats_no_run(segresnet):
    request, study, _ = segresnet
    first = next(iter(run_folders(study)))
    before = json.loads(first.record.read_text())["weights_hash"]
    first.record.unlink()
    run_study(dataclasses.replace(request, network=f"monai.networks.nets.{SEGRESNET}"), in_process=True)
    assert json.loads(first.record.read_text())["weights_hash"] == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"network": None}, f"network monai.networks.nets.{SEGRESNET} → that of the plan"),
        ({"network": SEGRESNET.replace("=4", "=8")}, "init_filters=8"),
        ({"optimizer": "adamw"}, "optimizer Muon and AdamW → adamw"),
        ({"schedule": "constant"}, "schedule one cycle → constant"),
        ({"weights": True}, "weights none → with SHA-256"),
    ],
)
def test_other_parts_are_refused_for_a_study_that_exists(segresnet, tmp_path, options, says):
    request, study, _ = segresnet
    if "weights" in options:
        options = {"weights": next(iter(run_folders(study))).checkpoint}
    with pytest.raises(RecordError, match="other settings") as refusal:
        run_study(dataclasses.replace(request, **options), in_process=True)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def pretrained(segresnet, tmp_path_factory):
    """Weights that the study of the network has trained."""
    path = tmp_path_factory.mktemp("weights") / "pretrained.pt"
    path.write_bytes(next(iter(run_folders(segresnet[1]))).checkpoint.read_bytes())
    return path


def test_a_training_begins_with_the_weights_of_a_file_that_must_stay(phantoms, pretrained, tmp_path):
    options = {"network": SEGRESNET, "weights": pretrained, "optimizer": "adamw", "schedule": "polynomial"}
    request = request_of(phantoms, tmp_path / "study", **options)
    study = run_study(request, in_process=True)
    traces = read_traces(study)
    assert len({trace.record.initial_weights_hash for trace in traces}) == 1  # whatever the fold
    record = read_study(study)
    assert (record.optimizer, record.schedule) == ("adamw", "polynomial")
    assert record.plan.reasons["weights"] == f"all from {pretrained}"
    build_report(study)
    folds = export_bundle(read_source(study, "dice"), tmp_path / "folds", origin="folds")
    assert f"(SHA-256 {record.recipe.weights_sha256})" in (folds.root / "docs" / "README.md").read_text()
    content = pretrained.read_bytes()
    try:
        state = torch.load(pretrained, weights_only=True)
        state["network"]["convInit.conv.weight"] += 1
        torch.save(state, pretrained)
        with pytest.raises(RecordError, match=r"weights with SHA-256 .* → with SHA-256"):
            run_study(request, in_process=True)
        with pytest.raises(BundleError, match="has changed since the study began"):
            export_bundle(read_source(study, "dice"), tmp_path / "bundle")
    finally:
        pretrained.write_bytes(content)


def test_a_network_with_noise_and_batch_statistics_trains_alike_for_all_losses(phantoms, tmp_path):
    request = request_of(phantoms, tmp_path / "study", network=UNET, losses="ce,dice")
    study = run_study(request, in_process=True)
    first, second = (trace.record for trace in read_traces(study)[:2])
    assert first.initial_weights_hash == second.initial_weights_hash
    assert first.feed_hash == second.feed_hash


def test_one_recipe_alone_takes_these_options(phantoms, tmp_path):
    with pytest.raises(ConfigError, match="--network: cannot be used in a folder of several recipes"):
        run_recipes(request_of(phantoms, tmp_path / "out", network=SEGRESNET), ["fast", "adamw"])
    assert not (tmp_path / "out").exists()


def test_masks_of_other_trainers_take_no_network(tmp_path):
    with pytest.raises(ConfigError, match="--network: has no effect with --trainer nnunet"):
        StudyRequest(dataset=Path(), out=tmp_path, trainer="nnunet", network="SegResNet")


class CountedSGD(torch.optim.SGD):
    """Count the steps of all optimizers of this class."""

    steps = 0

    def step(self, closure=None):
        CountedSGD.steps += 1
        return super().step(closure)


def test_the_machine_is_timed_with_network_and_optimizer_of_the_recipe(segresnet, monkeypatch):
    record = read_study(segresnet[1])
    built = []

    def build(*arguments):
        built.append(arguments[-1].name)
        return build_network(*arguments)

    monkeypatch.setattr("pipeline.network.architecture.build_network", build)
    recipe = replace_parts(Recipe(), network=SEGRESNET, optimizer=f"{__name__}:CountedSGD")
    plan = TypeAdapter(Plan).validate_python(record.plan.to_json())
    before = CountedSGD.steps
    trial = time_steps(Workload(plan, 2, recipe), 1, "cpu", "float32")
    assert trial.step_seconds > 0
    assert (built, CountedSGD.steps - before) == (["SegResNet"], TRIAL_STEPS["cpu"])


class Diverging(torch.optim.SGD):
    """Make all weights NaN."""

    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.fill_(torch.nan)


def test_a_training_that_is_not_finite_while_the_machine_is_timed_is_refused(segresnet):
    plan = TypeAdapter(Plan).validate_python(read_study(segresnet[1]).plan.to_json())
    recipe = replace_parts(Recipe(), network=SEGRESNET)
    recipe = dataclasses.replace(recipe, optimizer=OptimizerChoice(f"{__name__}:Diverging"))
    with pytest.raises(ConfigError, match="the loss was not finite at step 2 in float32"):
        time_steps(Workload(plan, 2, recipe), 1, "cpu", "float32")


def test_a_part_that_changes_nothing_leaves_the_recipe_as_it_is(phantoms, tmp_path):
    request = request_of(phantoms, tmp_path / "study", optimizer="muon", schedule="one_cycle", part=(0, 1))
    study = run_study(request, in_process=True)
    assert "recipe" not in json.loads(study.settings.read_text())


def file_of_code(folder):
    torch.save({"network": Path("x")}, folder / "code.pt")
    return folder / "code.pt"


def empty_file(folder):
    (folder / "empty.pt").write_bytes(b"")
    return folder / "empty.pt"


BAD = {
    "an unknown class": ({"network": "SegResNett"}, "did you mean SegResNet"),
    "a module that is not there": ({"network": "no.such.module:Net"}, "cannot be imported"),
    "a malformed text": ({"network": "SegResNet{init_filters"}, "must be the name of a network"),
    "an unknown argument": ({"network": "SegResNet{filters=8}"}, "has no argument filters"),
    "a network that is no segmentation": ({"network": "ControlNet"}, "no argument for the number of classes"),
    "weights without a network": ({"weights": Path("w.pt")}, "belong to no network"),
    "weights that are absent": ({"network": SEGRESNET, "weights": Path("w.pt")}, "does not exist"),
    "weights that hold code": ({"network": SEGRESNET, "weights": file_of_code}, "holds more than tensors"),
    "weights that are damaged": ({"network": SEGRESNET, "weights": empty_file}, "could not be read|holds more"),
    "an unknown optimizer": ({"optimizer": "sdg"}, "is an unknown optimizer"),
    "an argument of an optimizer": ({"optimizer": "sgd{speed=3}"}, "could not be built"),
    "an unknown schedule": ({"schedule": "cosine"}, "is an unknown schedule"),
    "an argument of a schedule": ({"schedule": "polynomial{speed=3}"}, "could not be built"),
    "an optimizer for another schedule": ({"optimizer": "torch.optim.Adagrad"}, "--schedule one_cycle: could not"),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_refused_in_one_line_before_the_dataset_is_read(case, tmp_path):
    options, says = BAD[case]
    if callable(make := options.get("weights")):
        options = options | {"weights": make(tmp_path)}
    with pytest.raises(ConfigError, match=says) as refusal:
        run_study(request_of(tmp_path / "absent", tmp_path / "out", **options), in_process=True)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


class WithoutDefaultRate(torch.optim.SGD):
    """An optimizer whose learning rate the user must give."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)


def test_an_optimizer_without_a_default_rate_needs_candidates(tmp_path):
    options = {"optimizer": f"{__name__}:WithoutDefaultRate", "learning_rates": None}
    with pytest.raises(ConfigError, match="has no default learning rate; give candidates with --learning-rates"):
        run_study(request_of(tmp_path / "absent", tmp_path / "out", **options), in_process=True)
    choice = OptimizerChoice(f"{__name__}:WithoutDefaultRate")
    assert choice.fallback_rate((0.3, 0.1, 0.2)) == 0.2
