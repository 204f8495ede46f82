"""Convolutions of three dimensions by the faster of the ways that PyTorch and oneDNN have on this processor.

Some choices of theirs cost a CPU much of a training in float32, and can be steered from outside, with the same result
up to rounding:

- For a single window whose channels x depth x height are at most 20,480, PyTorch takes its own convolution instead of
  oneDNN's (``use_mkldnn`` in ``aten/src/ATen/native/Convolution.cpp``): two to three times as slow.
- With AVX2 alone, oneDNN computes the gradient of the weights by the convolution's matrix where the depth is padded
  (``ONEDNN_VERBOSE=all``: "padding size unsupported"), and by its direct method where it is not: so the depth is
  padded here.
- A transposed convolution whose windows don't overlap, with few outputs (out of a stem, to the classes), is a product
  of matrices, and faster as one.

``python benchmarks/convolutions.py`` prints what the last two gain.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

from pipeline.network.precision import Precision

PADDED_FROM_CHANNELS = 4
PADDED_TO_CHANNELS = 64
"""The direct method pays from four input channels, and where input or output has no more than 64."""

FEW_OUTPUTS = 4
"""The product of matrices pays up to so many outputs."""

Triple = tuple[int, ...]


class _Geometry(NamedTuple):
    """What ``nn.Conv3d`` gives beside tensors, in its order."""

    stride: Triple
    padding: Triple
    dilation: Triple
    groups: int


def convolutions(window: torch.Tensor, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which a network convolves `window` (B, C, *S) fastest."""
    if precision != "float32" or window.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return nullcontext()
    if not torch.is_grad_enabled():
        return _Convolutions(_in_onednn, torch.conv_transpose3d) if len(window) == 1 else nullcontext()
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return nullcontext()
    return _Convolutions(_for_training, _transposed_for_training)


class _Convolutions(TorchFunctionMode):
    """Carry out what ``nn.Conv3d`` and ``nn.ConvTranspose3d`` call by other functions."""

    def __init__(self, convolve: Callable[..., torch.Tensor], transposed: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.convolve, self.transposed = convolve, transposed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry out `func`."""
        if func is torch.conv3d and len(args) == 7 and not isinstance(args[4], str):
            return self.convolve(*args[:3], _Geometry(*args[3:]))
        if func is torch.conv_transpose3d and len(args) == 8:
            return self.transposed(*args)
        return func(*args, **(kwargs or {}))


def _in_onednn(
    window: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry
) -> torch.Tensor:
    stride, padding, dilation, groups = geometry
    return torch.mkldnn_convolution(window, weight, bias, padding, stride, dilation, groups)


def _for_training(
    window: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry
) -> torch.Tensor:
    stride, padding, dilation, groups = geometry
    outputs, inputs = weight.shape[:2]
    pays = inputs >= PADDED_FROM_CHANNELS and min(inputs, outputs) <= PADDED_TO_CHANNELS
    if padding[0] > 0 and groups == 1 and pays:
        return PaddedForWeights.apply(window, weight, bias, stride, padding, dilation)
    return torch.conv3d(window, weight, bias, *geometry)


def _transposed_for_training(
    window: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Triple,
    padding: Triple,
    output_padding: Triple,
    groups: int,
    dilation: Triple,
) -> torch.Tensor:
    kernel, outputs = tuple(weight.shape[2:]), weight.shape[1]
    apart = kernel == tuple(stride) and not any((*padding, *output_padding)) and groups == 1 and set(dilation) == {1}
    if not apart or bias is None or outputs > FEW_OUTPUTS:
        return torch.conv_transpose3d(window, weight, bias, stride, padding, output_padding, groups, dilation)
    batch, inputs, x, y, z = window.shape
    matrix = weight.reshape(inputs, -1).t().expand(batch, -1, -1)
    biases = bias.repeat_interleave(weight[0, 0].numel())[:, None].expand(batch, -1, 1)
    blocks = torch.baddbmm(biases, matrix, window.reshape(batch, inputs, -1)).view(batch, outputs, *kernel, x, y, z)
    size = [edge * times for edge, times in zip((x, y, z), kernel, strict=True)]
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, outputs, *size)


class PaddedForWeights(torch.autograd.Function):
    """``torch.conv3d`` whose gradient of the weights is that of a convolution of the input padded in depth."""

    @staticmethod
    def forward(
        ctx: Any,
        window: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
    ) -> torch.Tensor:
        """Return the convolution (B, outputs, *S) of (B, inputs, *S)."""
        ctx.save_for_backward(window, weight)
        ctx.stride, ctx.padding, ctx.dilation = stride, padding, dilation
        return torch.conv3d(window, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of window, weight and bias."""
        window, weight = ctx.saved_tensors
        of_window, of_weight, of_bias = ctx.needs_input_grad[:3]
        depth, height, width = ctx.padding

        def gradients(image: torch.Tensor, padding: Triple, wanted: Sequence[bool]) -> Sequence[torch.Tensor | None]:
            biases = [len(weight)] if of_bias else None
            found: Sequence[torch.Tensor | None] = torch.ops.aten.convolution_backward(
                gradient, image, weight, biases, ctx.stride, padding, ctx.dilation, False, (0, 0, 0), 1, wanted
            )
            return found

        windows = gradients(window, ctx.padding, (True, False, False))[0] if of_window else None
        padded = pad(window, (0, 0, 0, 0, depth, depth))
        _, weights, biases = gradients(padded, (0, height, width), (False, of_weight, of_bias))
        return windows, weights, biases, None, None, None
