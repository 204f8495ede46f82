import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SimpleInferer
from monai.networks.nets import DynUNet
from torch.profiler import ProfilerActivity, profile

from pipeline.network.convolutions import PaddedForWeights, convolutions
from pipeline.network.prediction import AutocastInferer

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], norm_name="instance")


def gradients(network: torch.nn.Module, inferer: AutocastInferer, window: torch.Tensor) -> list[torch.Tensor]:
    network.zero_grad()
    inferer(window, network).square().mean().backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@needs_onednn
def test_a_single_window_is_convolved_by_onednn_alone():
    network = small_network().eval()
    window = torch.rand(1, 1, 16, 24, 16)
    inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as found:
        logits = inferer(window, network)
    with torch.no_grad():
        expected = network(window)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    names = {event.key for event in found.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv3d" in name for name in names)


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_a_network_gets_the_gradients_of_autograd_on_every_processor(monkeypatch, capability):
    network, window = small_network(), torch.rand(2, 1, 16, 24, 16)
    network(window).square().mean().backward()
    expected = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
    torch.testing.assert_close(gradients(network, inferer, window), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_a_single_window_that_is_to_be_differentiated_stays_with_autograd(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
    inferer(torch.rand(1, 1, 8, 8, 8), network).sum().backward()
    assert network.weight.grad is not None
    assert bool(network.weight.grad.any())


def test_gradients_of_the_weights_are_of_the_padded_input_with_avx2_alone(monkeypatch):
    def functions(capability: str) -> set[str]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
        with profile(activities=[ProfilerActivity.CPU]) as found:
            gradients(small_network(), inferer, torch.rand(2, 1, 16, 24, 16))
        return {event.key for event in found.key_averages()}

    assert "PaddedForWeightsBackward" in functions("AVX2")
    assert "PaddedForWeightsBackward" not in functions("AVX512")


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(2, 8, 8), (1, 1, 8), (1, 72, 72)])
def test_where_padding_does_not_pay_the_convolution_is_that_of_pytorch(monkeypatch, groups, inputs, outputs):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    window, layer = torch.rand(2, inputs, 4, 4, 4), torch.nn.Conv3d(inputs, outputs, 3, padding=1, groups=groups)
    with convolutions(window, "float32"):
        assert type(layer(window).grad_fn).__name__ == "ConvolutionBackward0"


def test_bfloat16_and_string_paddings_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    window, layer = torch.rand(2, 8, 4, 4, 4), torch.nn.Conv3d(8, 8, 3, padding="same")
    with convolutions(window, "float32"):
        torch.testing.assert_close(
            layer(window), torch.nn.functional.conv3d(window, layer.weight, layer.bias, padding=1)
        )
    layer = torch.nn.Conv3d(8, 8, 3, padding=1)
    with convolutions(window, "bfloat16"):
        assert type(layer(window).grad_fn).__name__ == "ConvolutionBackward0"


three = st.tuples(*[st.integers(1, 3)] * 3)


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    kernel=three,
    stride=three,
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    dilation=st.tuples(*[st.integers(1, 2)] * 3),
    bias=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_gradients_are_those_of_conv3d(batch, inputs, outputs, kernel, stride, padding, dilation, bias, seed):
    random = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(size, generator=random, dtype=torch.float64, requires_grad=True)
        for size in [(batch, inputs, 6, 7, 5), (outputs, inputs, *kernel), (outputs,)]
    ]
    if not bias:
        tensors = tensors[:2]
    arguments = [*tensors, *([] if bias else [None]), stride, padding, dilation]
    result, expected = PaddedForWeights.apply(*arguments), torch.conv3d(*arguments)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(result.shape, generator=random, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(result, tensors, weights), torch.autograd.grad(expected, tensors, weights)
    )


@settings(max_examples=40)
@given(
    batch=st.integers(2, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 5),
    kernel=three,
    overlap=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_transposed_convolutions_give_what_pytorch_gives(batch, inputs, outputs, kernel, overlap, bias, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stride = (1, 1, 1) if overlap else kernel
        layer = torch.nn.ConvTranspose3d(inputs, outputs, kernel, stride, bias=bias).double()
        window = torch.randn(batch, inputs, 3, 4, 2, dtype=torch.float64, requires_grad=True)
        expected = layer(window)
        weights = torch.randn_like(expected)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        with convolutions(window, "float32"):
            result = layer(window)
    torch.testing.assert_close(result, expected)
    tensors = [window, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(result, tensors, weights), torch.autograd.grad(expected, tensors, weights)
    )


def test_a_way_out_of_a_stem_is_a_product_of_matrices_with_avx2_alone(monkeypatch):
    layer, window = torch.nn.ConvTranspose3d(8, 3, 2, 2), torch.rand(2, 8, 4, 4, 4)

    def functions(capability: str) -> set[str]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        with profile(activities=[ProfilerActivity.CPU]) as found, convolutions(window, "float32"):
            layer(window)
        return {event.key for event in found.key_averages()}

    assert "aten::baddbmm" in functions("AVX2")
    assert "aten::baddbmm" not in functions("AVX512")
