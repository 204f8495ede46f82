"""nnU-Net's network: its structure, its outputs in training and prediction, and its weights in MONAI's network."""

import copy
import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.architecture import build_network
from pipeline.network.deep_supervision import all_resolutions, return_all_resolutions
from pipeline.network.network_arguments import network_arguments
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.nnunet_network import PLAIN_CONV_UNET, as_dyn_unet, load_into_dyn_unet, nnunet_features
from pipeline.network.patch_fitting import fit_patch

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("dynamic_network_architectures") is None,
    reason="needs nnU-Net: pip install 'segloss[nnunet]'",
)


def test_the_text_of_the_network_is_read_as_the_network() -> None:
    assert NetworkSpec.parse(PLAIN_CONV_UNET.text) == PLAIN_CONV_UNET


def test_features_double_up_to_320() -> None:
    assert nnunet_features(7) == [32, 64, 128, 256, 320, 320, 320]


@needs_package
def test_a_plan_with_a_stem_gives_a_network_at_full_resolution(plan: Plan) -> None:
    with_stem = replace(plan, stem=(2, 2, 2), strides=((2, 2, 1), (1, 2, 2)), channels=(16, 32, 64))
    fitted = fit_patch(with_stem, PLAIN_CONV_UNET, 1, 2)
    arguments = network_arguments(PLAIN_CONV_UNET, fitted, 1, 2)
    assert fitted.stem == (1, 1, 1)
    assert arguments["strides"] == [1, [2, 2, 2], [2, 2, 1], [1, 2, 2]]
    assert arguments["features_per_stage"] == [32, 64, 128, 256]
    assert arguments["n_stages"] == 4


@needs_package
def test_other_networks_of_the_package_get_its_settings(plan: Plan) -> None:
    text = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet{n_blocks_per_stage=1,conv_bias=false}"
    spec = NetworkSpec.parse(text)
    arguments = network_arguments(spec, plan, 1, 2)
    assert arguments["norm_op"] == "$torch.nn.InstanceNorm3d"
    assert (arguments["conv_bias"], arguments["features_per_stage"]) == (False, [32, 64, 128])
    network = build_network(plan, 1, 2, 0, 0, spec)
    assert network(torch.randn(1, 1, *plan.patch)).shape == (1, 2, *plan.patch)


@needs_package
def test_the_network_is_that_of_nnunet(plan: Plan) -> None:
    network = build_network(plan, 2, 3, 0, 0, PLAIN_CONV_UNET)
    convolutions = [module for module in network.encoder.modules() if isinstance(module, nn.Conv3d)]
    assert [convolution.out_channels for convolution in convolutions] == [32, 32, 64, 64, 128, 128]
    assert [convolution.stride[0] for convolution in convolutions] == [1, 1, 2, 1, 2, 1]
    assert {convolution.kernel_size for convolution in convolutions} == {(3, 3, 3)}
    assert all(convolution.bias is not None for convolution in convolutions)
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm3d)]
    assert norms
    assert all(norm.affine for norm in norms)
    assert {module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)} == {0.01}
    # nnU-Net draws weights by He et al. for this slope, with biases of 0.
    weight = convolutions[-1].weight
    assert float(weight.detach().std()) == pytest.approx((2 / 1.0001 / (128 * 27)) ** 0.5, rel=0.02)
    assert float(convolutions[-1].bias.detach().abs().max()) == 0


@needs_package
def test_all_resolutions_are_returned_in_training_and_one_in_evaluation(plan: Plan) -> None:
    network = build_network(plan, 1, 3, 0, 0, PLAIN_CONV_UNET)
    image = torch.randn(1, 1, *plan.patch)
    assert network.train()(image).shape == (1, 3, 16, 16, 16)
    return_all_resolutions(network)
    for each in (network, copy.deepcopy(network)):
        assert [tuple(logits.shape[2:]) for logits in each.train()(image)] == [(16, 16, 16), (8, 8, 8)]
        assert each.eval()(image).shape == (1, 3, 16, 16, 16)


def test_monai_networks_return_all_resolutions_too(plan: Plan) -> None:
    spec = NetworkSpec.parse("DynUNet{deep_supervision=true,deep_supr_num=1}")
    network = build_network(plan, 1, 3, 0, 0, spec)
    return_all_resolutions(network)
    outputs = network.train()(torch.randn(1, 1, *plan.patch))
    assert [tuple(logits.shape) for logits in outputs] == [(1, 3, 16, 16, 16)] * 2


def test_a_network_with_one_output_returns_it(plan: Plan) -> None:
    network = build_network(plan, 1, 3, 0, 0, NetworkSpec.parse("SegResNet{init_filters=8}"))
    return_all_resolutions(network)
    assert network.train()(torch.randn(1, 1, *plan.patch)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("output", [None, "text", {}, [], [torch.zeros(1, 3, 4, 4, 4)], [torch.zeros(2), 3]])
def test_something_else_than_logits_has_no_resolutions(output: object) -> None:
    assert all_resolutions(output, (1, 2, 4, 4, 4)) == ()


@needs_package
def test_monais_network_computes_the_same_from_its_weights(plan: Plan) -> None:
    flat = replace(plan, strides=((2, 2, 1), (2, 2, 2)))
    network = build_network(flat, 2, 3, 0, 0, PLAIN_CONV_UNET)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    spec = as_dyn_unet(network_arguments(PLAIN_CONV_UNET, flat, 2, 3))
    twin = build_network(flat, 2, 3, 1, 0, spec)
    load_into_dyn_unet(twin, network.state_dict())
    image = torch.randn(1, 2, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(image), network.eval()(image), rtol=1e-4, atol=1e-4)


@needs_package
def test_weights_of_another_network_are_refused(plan: Plan) -> None:
    spec = as_dyn_unet(network_arguments(PLAIN_CONV_UNET, plan, 1, 3))
    twin = build_network(plan, 1, 3, 0, 0, spec)
    weights = build_network(plan, 1, 3, 0, 0, PLAIN_CONV_UNET).state_dict()
    with pytest.raises(ValueError, match="lack"):
        load_into_dyn_unet(twin, {name: value for name, value in weights.items() if "transpconvs" not in name})
    deeper = replace(plan, strides=((2, 2, 2),) * 3, channels=(4, 8, 16, 32), patch=(32, 32, 32))
    deep = build_network(deeper, 1, 3, 0, 0, PLAIN_CONV_UNET).state_dict()
    with pytest.raises((ValueError, RuntimeError)):
        load_into_dyn_unet(twin, deep)
