"""A network with a stem: the bundle's configuration builds the network that was trained, and no other."""

import pytest
import torch
from monai.bundle import ConfigParser

from pipeline.bundle.checking import Refused, check_configuration
from pipeline.bundle.configurations import configurations, inference_config, training_config
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.network_config import ensemble_config, ensemble_weights, network_config
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, TrainingRanges
from pipeline.data.plan import Plan
from pipeline.network.architecture import build_network

CLASSES = {1: "a", 2: "b"}
PLAN = Plan(
    spacing_mm=(1.0, 1.0, 1.0), patch=(16, 16, 8), batch=1, normalisation=("zscore",) * 2,
    intensity_range=((0.0, 1.0),) * 2, intensity_mean=(0.0,) * 2, intensity_std=(1.0,) * 2, channels=(4, 8, 8),
    stem=(2, 2, 1), strides=((2, 2, 2),) * 2, tolerance_mm=1.0, metrics=("dice",), reasons={}, window=(16, 24, 8),
)  # fmt: skip

RECIPE = make_settings(PLAN, "dice_ce", {})


def spec_of(members):
    return BundleSpec(
        name="stemmed", channels=("a", "b"), classes=CLASSES, several_files=True, spacing_mm=PLAN.spacing_mm,
        patch=PLAN.inference_window, overlap=0.25, batch=1, precision="float32", members=members,
        fingerprint=TrainingRanges(cases=1, spacing_mm=(), shape=(), intensity=()),
        segments=default_segments(CLASSES),
    )  # fmt: skip


def trained(seed):
    return build_network(PLAN, 2, 3, seed, 0).eval()


@pytest.mark.parametrize("members", [1, 2])
def test_the_configuration_builds_the_network_that_was_trained(members):
    networks = [trained(seed) for seed in range(members)]
    weights = [network.state_dict() for network in networks]
    config = network_config(RECIPE, 2, 3) if members == 1 else ensemble_config(RECIPE, 2, 3, members)
    built = ConfigParser(config).get_parsed_content("network_def").eval()
    built.load_state_dict(weights[0] if members == 1 else ensemble_weights(weights, 2, 3))
    image = torch.rand(1, 2, *PLAN.inference_window, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack([network(image) for network in networks]).mean(0)
        assert expected.shape == (1, 3, *PLAN.inference_window)
        assert torch.allclose(built(image), expected, atol=1e-5)
        assert torch.equal(torch.jit.script(built)(image), built(image))


@pytest.mark.parametrize("members", [1, 2])
def test_the_recipe_gives_the_configurations_of_the_plan(members):
    spec = spec_of(members)
    found = configurations(spec, make_settings(PLAN, "dice_ce", {}))
    network = found["inference"]["unet" if members == 1 else "member_0"]
    unet = network if members == 1 else network[2]
    assert unet["filters"] == [4, 8, 8]
    assert unet["strides"] == [1, [2, 2, 2], [2, 2, 2]]
    assert found["train"]["patch"] == [16, 16, 8]
    assert found["evaluate"]["window"] == [16, 24, 8]
    assert found["inference"]["inferer"]["roi_size"] == [16, 24, 8]


@pytest.mark.parametrize("part", ["into", "unet", "out_of"])
def test_a_part_that_is_missing_or_another_is_refused(part):
    config = inference_config(spec_of(1), RECIPE)
    with pytest.raises(Refused, match=part):
        check_configuration({name: value for name, value in config.items() if name != part}, config)
    with pytest.raises(Refused, match=part):
        check_configuration(config | {part: {"_target_": "os.system", "command": "true"}}, config)
    with pytest.raises(Refused, match=part):
        check_configuration(config | {part: config[part] | {"device": "cuda"}}, config)


def test_training_sees_patches_and_prediction_windows():
    config = training_config(spec_of(1), RECIPE)
    assert (config["patch"], config["window"]) == ([16, 16, 8], [16, 24, 8])
    assert inference_config(spec_of(1), RECIPE)["inferer"]["roi_size"] == [16, 24, 8]
