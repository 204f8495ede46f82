"""Networks of MONAI in bundles: written as data, built as they were trained, and nothing else is accepted."""

import json

import pytest
import torch
from monai.bundle import ConfigParser
from pydantic import ValidationError
from untrained import CLASSES, PLAN, write_untrained

from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.model import load_model
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.named_network import (
    NETWORKS,
    NamedNetwork,
    exportable_network,
    exportable_weights,
    remains_without_values,
)
from pipeline.bundle.network_config import ensemble_config, ensemble_weights, network_config
from pipeline.bundle.verification import verify_bundle
from pipeline.errors import BundleError
from pipeline.network.architecture import build_network
from pipeline.network.network_class import META, SequencesOnCpu
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.nnunet_network import PLAIN_CONV_UNET
from pipeline.network.patch_fitting import fit_patch

SMALLEST = {
    "AHNet": "layers=[1,1,1,1],psp_block_num=0",
    "BasicUNet": "features=[4,4,8,8,8,4]",
    "FlexibleUNet": "decoder_channels=[8,8,8,8,8]",
    "MedNeXt": "init_filters=4,blocks_down=[1,1,1,1],blocks_up=[1,1,1,1]",
    "SegResNetDS": "init_filters=4",
    "SwinUNETR": "feature_size=12,depths=[1,1,1,1],window_size=4",
    "UNETR": "hidden_size=24,num_heads=2,mlp_dim=32,feature_size=4",
}
SLOW = {"AHNet", "FlexibleUNet", "VNet", "SwinUNETR", "HighResNet"}
SEGRESNET = NetworkSpec.parse("SegResNet{init_filters=8,blocks_down=[1,1],blocks_up=[1],act=[RELU,{inplace: true}]}")


def settings_of(text):
    spec = NetworkSpec.parse(text)
    plan = fit_patch(PLAN, spec, 1, 3)
    return spec, plan, make_settings(plan, "dice_ce", {}, network=exportable_network(spec, plan, 1, 3))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS])
def test_the_configuration_builds_the_network_that_was_trained(name):
    spec, plan, settings = settings_of(f"{name}{{{SMALLEST.get(name, '')}}}")
    trained = build_network(plan, 1, 3, 0, 0, spec).eval()
    config = json.loads(json.dumps(network_config(settings, "@channels", "@classes") | {"channels": 1, "classes": 3}))
    with META, SequencesOnCpu():  # as a bundle that is not trusted is built
        built = ConfigParser(config).get_parsed_content("network_def")
    built.load_state_dict(trained.state_dict(), assign=True)
    assert remains_without_values(built) == ""
    image = torch.rand(1, 1, *plan.patch, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(built.eval()(image), trained(image), atol=1e-6)


def test_an_ensemble_of_named_networks_gives_the_mean_of_its_members():
    spec, plan, settings = settings_of("UNet")
    members = [build_network(plan, 1, 3, seed, 0, spec).eval() for seed in range(2)]
    built = ConfigParser(ensemble_config(settings, 1, 3, 2)).get_parsed_content("network_def").eval()
    built.load_state_dict(ensemble_weights([member.state_dict() for member in members], 1, 3))
    image = torch.rand(1, 1, *plan.patch, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack([member(image) for member in members]).mean(0)
        assert torch.allclose(built(image), expected, atol=1e-5)


def test_a_bundle_with_a_named_network_is_loaded_and_verified(tmp_path):
    root = write_untrained(tmp_path / "bundle", network=SEGRESNET)
    assert type(load_model(root).network).__name__ == "SegResNet"
    assert verify_bundle(root).problems == ()
    stored = json.loads((root / "configs" / "inference.json").read_text())["network_def"]
    assert stored["_target_"] == "monai.networks.nets.SegResNet"


def test_the_files_of_other_bundles_name_no_network(tmp_path):
    root = write_untrained(tmp_path / "bundle")
    assert "network" not in json.loads((root / "configs" / "metadata.json").read_text())["segloss"]["recipe"]


def test_nnunets_network_becomes_monais():
    pytest.importorskip("dynamic_network_architectures", reason="needs nnU-Net: pip install 'segloss[nnunet]'")
    plan = fit_patch(PLAN, PLAIN_CONV_UNET, 1, 3)
    settings = make_settings(plan, "dice_ce", {}, network=exportable_network(PLAIN_CONV_UNET, plan, 1, 3))
    trained = build_network(plan, 1, 3, 0, 0, PLAIN_CONV_UNET).eval()
    built = ConfigParser(network_config(settings, 1, 3)).get_parsed_content("network_def").eval()
    built.load_state_dict(exportable_weights(PLAIN_CONV_UNET, plan, 1, 3, trained.state_dict()))
    assert type(built).__name__ == "DynUNet"
    image = torch.rand(1, 1, *plan.patch, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(built(image), trained(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("Transchex", {}, "must be one of"),
        ("HoVerNet", {"pretrained_url": "x"}, "must be one of"),
        ("../os", {}, "must be one of"),
        ("UNet", {"_target_": "os.system"}, "not the name of an argument"),
        ("UNet", {"act": {"_target_": "os.system", "command": "true"}}, "not the name of an argument"),
        ("UNet", {"act": "$__import__('os').system('true')"}, "not a word"),
        ("UNet", {"act": "%configs/metadata.json"}, "not a word"),
        ("UNet", {"act": "@bundle_root"}, "not a word"),
        ("UNet", {"act": "os.system"}, "not a word"),
        ("UNet", {"in_channels": 1}, "follows from the bundle"),
        ("AHNet", {"pretrained": True}, "would download"),
        ("UNet", {"channels": [10**6, 8]}, "at most"),
        ("UNet", {"channels": [1] * 100}, "more than"),
        ("SegResNet", {"blocks_down": [1, 1000]}, "at most 64"),
        ("UNet", {"a": [[[[[[1]]]]]]}, "too deep"),
        ("UNet", {"a": float("nan")}, "at most|finite"),
    ],
)
def test_other_classes_and_arguments_that_are_not_data_are_refused(name, arguments, problem):
    with pytest.raises(ValidationError, match=problem):
        NamedNetwork(name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "Transchex"}, "network::name"),
        ({"arguments": {"preprocess": "$print(1)"}}, "network::arguments"),
        ({"target": "os.system"}, "network::target"),
        ({"arguments": {"init_filters": 4096}}, "models/model.pt|network_def|differs|init_filters"),
    ],
)
def test_a_changed_network_in_the_specification_is_refused(tmp_path, change, problem):
    root = write_untrained(tmp_path / "bundle", network=SEGRESNET)
    path = root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["segloss"]["recipe"]["network"] |= change
    path.write_text(json.dumps(metadata))
    write_manifest(root, "untrained", "1.0.0")
    with pytest.raises(BundleError, match=problem):
        load_model(root)


def test_a_changed_target_in_a_configuration_is_refused(tmp_path):
    root = write_untrained(tmp_path / "bundle", network=SEGRESNET)
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {"_target_": "os.system", "command": "true"}
    path.write_text(json.dumps(config))
    write_manifest(root, "untrained", "1.0.0")
    with pytest.raises(BundleError, match="network_def::_target_"):
        load_model(root)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (NetworkSpec("torch.nn.Conv3d", {"kernel_size": 1}), "is code that a bundle cannot hold"),
        (NetworkSpec.parse("BasicUNetPlusPlus"), "cannot be exported"),
        (NetworkSpec.parse("DynUNet{deep_supervision=true}"), "returns several outputs"),
        (NetworkSpec.parse("UNet{act='os.system'}"), "cannot be built|cannot hold"),
    ],
)
def test_a_network_that_is_not_data_is_refused_by_name(spec, problem):
    with pytest.raises(Exception, match=problem) as refusal:
        exportable_network(spec, PLAN, 1, len(CLASSES))
    assert spec.target in str(refusal.value)
    assert "\n" not in str(refusal.value)
