"""MONAI's own checks of a bundle: metadata, network, TorchScript, ONNX, and every property of a workflow."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import (
    ConfigWorkflow,
    ckpt_export,
    load_bundle_config,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from pipeline.bundle.model import load_model

SCHEMA = Path(__file__).parents[3] / "shared/schemas/meta_schema_20240725.json"
SCHEMA_MD5 = "06954cad2cc5d3784e72077ac76f0fc8"
REPOSITORY_BUNDLE = Path(__file__).parents[2] / "bundles/segmentation_3d"
OPTIONAL_IN_INFERENCE = {"key_metric"}
"""There is nothing to measure without labels."""


@pytest.mark.skipif(not SCHEMA.exists(), reason="MONAI's schema is not here")
@pytest.mark.parametrize("kind", ["bundle", "ensemble", "repository"])
def test_metadata_is_valid_against_monais_schema(kind, request, tmp_path):
    root = REPOSITORY_BUNDLE if kind == "repository" else request.getfixturevalue(kind)
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    verify_metadata(
        meta_file=str(root / "configs/metadata.json"), filepath=str(schema), hash_val=SCHEMA_MD5, hash_type="md5"
    )


@pytest.mark.parametrize("kind", ["bundle", "ensemble"])
def test_network_has_the_inputs_and_outputs_of_the_metadata(kind, request):
    root = request.getfixturevalue(kind)
    verify_net_in_out(
        net_id="network_def", meta_file=str(root / "configs/metadata.json"),
        config_file=str(root / "configs/inference.json"), n=2, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bundle", "ensemble"])
def test_torchscript_gives_the_same_masks(kind, request, tmp_path):
    root = request.getfixturevalue(kind)
    shape = [1, 1, *load_model(root).patch]
    for trace in (False, True):
        file = tmp_path / f"model_{trace}.ts"
        ckpt_export(
            net_id="network_def", filepath=str(file), ckpt_file=str(root / "models/model.pt"),
            meta_file=str(root / "configs/metadata.json"), config_file=str(root / "configs/inference.json"),
            use_trace=trace, input_shape=shape,
        )  # fmt: skip
        assert_same_masks(root, torch.jit.load(file))


def test_onnx_gives_the_same_masks(bundle, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    onnx_export(
        net_id="network_def", filepath=str(file), ckpt_file=str(bundle / "models/model.pt"),
        meta_file=str(bundle / "configs/metadata.json"), config_file=str(bundle / "configs/inference.json"),
        input_shape=[1, 1, *load_model(bundle).patch],
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    assert_same_masks(bundle, lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0]))


def assert_same_masks(root, other):
    """Sliding windows over the test vector, with the network of the bundle and with another form of it."""
    model = load_model(root)
    prepared = model.prepare([root / "test_vector/input.nii.gz"])
    image = torch.as_tensor(np.asarray(prepared.image))[None]
    with torch.no_grad():
        eager, exported = model.inferer(image, model.network), model.inferer(image, other)
    assert torch.allclose(eager, exported, atol=1e-4)
    first, _ = model.finish(prepared, eager[0])
    second, _ = model.finish(prepared, exported[0])
    assert np.array_equal(first, second)
    assert first.any()


def workflow(root, kind, files, data, output):
    found = ConfigWorkflow(
        config_file=[str(root / "configs" / file) for file in files], meta_file=str(root / "configs/metadata.json"),
        logging_file=False, workflow_type=kind, bundle_root=str(root), dataset_dir=str(data), output_dir=str(output),
    )  # fmt: skip
    found.initialize()
    return found


@pytest.mark.parametrize("kind", ["bundle", "repository"])
def test_every_property_of_training_is_readable(kind, request, tiny_dataset, tmp_path):
    root = REPOSITORY_BUNDLE if kind == "repository" else request.getfixturevalue(kind)
    training = workflow(root, "train", ["train.json"], tiny_dataset, tmp_path)
    assert training.check_properties() == []
    for name in TrainProperties | MetaProperties:
        assert getattr(training, name) is not None, name
    settings = {"max_epochs": 3, "val_interval": 2, "bundle_root": str(tmp_path), "dataset_dir": f"{tiny_dataset}/."}
    for name, value in settings.items():
        setattr(training, name, value)
    training.initialize()
    for name, value in settings.items():
        assert getattr(training, name) == value
    assert training.trainer.state.max_epochs == 3


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("bundle", "inference.json"),
        ("bundle", "evaluate.json"),
        ("ensemble", "inference.json"),
        ("ensemble", "evaluate.json"),
    ],
)
def test_every_property_of_inference_is_readable(kind, file, request, tiny_dataset, tmp_path):
    root = request.getfixturevalue(kind)
    inference = workflow(root, "infer", [file], tiny_dataset, tmp_path)
    assert inference.check_properties() == []
    for name in InferProperties | MetaProperties:
        if file == "inference.json" and name in OPTIONAL_IN_INFERENCE:
            continue
        assert getattr(inference, name) is not None, name
    inference.device = torch.device("cpu")
    inference.dataset_dir = str(tmp_path)
    inference.initialize()
    assert inference.device == torch.device("cpu")
    assert inference.dataset_dir == str(tmp_path)


def test_a_network_that_is_set_is_the_one_that_predicts(bundle, tiny_dataset, tmp_path):
    inference = workflow(bundle, "infer", ["inference.json"], tiny_dataset / "imagesTr", tmp_path)
    other = torch.nn.Conv3d(1, 3, 1)
    inference.network_def = other
    inference.handlers = []
    inference.initialize()
    assert inference.evaluator.network is other
    inference.run()
    assert len(list(tmp_path.glob("*_seg.nii.gz"))) == 4


def test_required_properties_of_monai_are_all_there(bundle):
    config = json.loads((bundle / "configs/inference.json").read_text())
    for name, description in InferProperties.items():
        if description[BundleProperty.REQUIRED]:
            assert description[BundlePropertyConfig.ID] in config, name


def test_load_bundle_config_reads_the_folder(bundle):
    parser = load_bundle_config(str(bundle), "inference.json")
    assert parser["_meta_"]["version"] == "1.0.0"
    assert parser.get_parsed_content("network_def") is not None
