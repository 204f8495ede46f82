"""Networks that the user names: arguments, outputs, refusals and initial weights."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.architecture import build_network
from pipeline.network.network_arguments import network_arguments
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.patch_fitting import fit_patch
from pipeline.network.weights_hash import weights_hash


class OwnNetwork(nn.Module):
    """A network of a user, with names of arguments that MONAI does not use."""

    def __init__(self, n_channels: int, n_classes: int, width: int = 4, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.scale = float(np.random.rand())  # noqa: NPY002
        self.first = nn.Conv3d(n_channels, width, 3, padding=1)
        self.last = nn.Conv3d(width, n_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.first(image)
        return self.last(features + self.noise * torch.randn_like(features) if self.noise else features)


class Coarse(OwnNetwork):
    """Returns logits at half the resolution."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image)[..., ::2, ::2, ::2]


class Several(OwnNetwork):
    """Returns coarse logits before those at full resolution."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        logits = super().forward(image)
        return [logits[..., ::2, ::2, ::2], logits]


class Dictionary(OwnNetwork):
    """Returns a dictionary."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"out": super().forward(image)}


class Guided(OwnNetwork):
    """Needs a prompt."""

    def forward(self, image: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(image) * prompt


def own(name: str, **arguments: object) -> NetworkSpec:
    return NetworkSpec(f"{__name__}.{name}", arguments)


def test_channels_and_classes_of_a_users_class_are_filled_in(plan: Plan) -> None:
    arguments = network_arguments(own("OwnNetwork", width=8), plan, 2, 5)
    assert arguments == {"n_channels": 2, "n_classes": 5, "width": 8}


def test_the_levels_of_a_u_net_are_those_of_the_plan_at_full_resolution(plan: Plan) -> None:
    behind_stem = replace(plan, channels=(16, 32), strides=((2, 2, 1),), stem=(2, 2, 2))
    arguments = network_arguments(NetworkSpec.parse("UNet{num_res_units=2}"), behind_stem, 1, 2)
    assert arguments == {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [16, 32, 64],
        "strides": [[2, 2, 2], [2, 2, 1]],
        "num_res_units": 2,
    }


def test_levels_that_the_user_gives_set_the_number_of_strides(plan: Plan) -> None:
    more = network_arguments(NetworkSpec.parse("UNet{channels=[4,8,16,32,64]}"), plan, 1, 2)
    fewer = network_arguments(NetworkSpec.parse("DynUNet{filters=[4,8]}"), plan, 1, 2)
    assert more["strides"] == [[2, 2, 2]] * 4
    assert (fewer["strides"], fewer["upsample_kernel_size"]) == ([1, [2, 2, 2]], [[2, 2, 2]])
    assert fewer["kernel_size"] == [3, 3]


def test_the_shape_of_the_input_is_the_patch_and_no_weights_are_downloaded(plan: Plan) -> None:
    assert network_arguments(NetworkSpec.parse("UNETR"), plan, 1, 2)["img_size"] == [16, 16, 16]
    assert network_arguments(NetworkSpec.parse("AHNet"), plan, 1, 2)["pretrained"] is False


def test_arguments_of_the_user_win(plan: Plan) -> None:
    assert network_arguments(NetworkSpec.parse("SegResNet{spatial_dims=2}"), plan, 1, 2)["spatial_dims"] == 2


def test_initial_weights_depend_on_seed_and_fold_and_no_generator_changes(plan: Plan) -> None:
    spec = own("OwnNetwork")
    torch.manual_seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    networks = [build_network(plan, 1, 2, seed, fold, spec) for seed, fold in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    hashes = [weights_hash(network) for network in networks]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert networks[0].scale == networks[1].scale != networks[3].scale


def test_the_names_of_weights_are_those_of_the_class(plan: Plan) -> None:
    network = build_network(plan, 1, 2, 0, 0, NetworkSpec.parse("DynUNet{deep_supervision=true}"))
    assert type(network).__name__ == "DynUNet"
    assert network.train()(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 2, 16, 16, 16)


def test_logits_at_full_resolution_are_selected(plan: Plan) -> None:
    assert fit_patch(plan, own("Several"), 1, 2).patch == plan.patch
    assert build_network(plan, 1, 2, 0, 0, own("Several"))(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (own("OwnNetwork", noise=0.1), "draws random numbers in prediction"),
        (own("Coarse"), r"returns \(2, 2, 8, 8, 8\), not logits \(2, 2, 16, 16, 16\)"),
        (own("Dictionary"), "returns a dict, not logits"),
        (own("Guided"), r"needs other inputs than an image \(image, prompt\)|\(prompt\)"),
        (own("OwnNetwork", width=-1), "cannot be built"),
        (own("OwnNetwork", widht=3), "has no argument widht; did you mean width"),
        (own("Missing"), "has no Missing"),
        (NetworkSpec("nowhere.Net"), "nowhere cannot be imported"),
        (NetworkSpec("random.Random"), "is not a class of torch.nn.Module"),
        (NetworkSpec.parse("SegResNet{spatial_dims=2}"), "does not accept a patch"),
        (NetworkSpec.parse("SegResNetVAE"), "returns a scalar beside logits"),
        (NetworkSpec.parse("ControlNet"), "has no argument for the number of classes"),
        (NetworkSpec.parse("ViT"), "requires patch_size"),
        (NetworkSpec.parse("DenseNet121{block_config=[1,1,1,1]}"), r"returns \(2, 2\), not logits|does not accept"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_one_line(plan: Plan, spec: NetworkSpec, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refusal:
        fit_patch(plan, spec, 1, 2)
    assert "\n" not in str(refusal.value)


def test_the_own_network_of_a_plan_is_left_alone(plan: Plan) -> None:
    assert fit_patch(plan, NetworkSpec(), 1, 2) is plan
