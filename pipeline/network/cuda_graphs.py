"""The work of a training step as CUDA graphs: one launch replaces hundreds of launches from Python.

A small network leaves a GPU idle most of the time, since Python launches kernels more slowly than the GPU runs them. A
CUDA graph records the kernels once and replays them in one launch. It reads and writes fixed memory addresses, so its
inputs, weights and gradients must stay where they were at capture.
"""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from pipeline.network.deep_supervision import Outputs, as_float32
from pipeline.network.precision import Precision

CAPTURABLE: tuple[type[nn.Module], ...] = (DynUNet, nn.Conv3d, nn.ConvTranspose3d)
"""Modules that launch the same kernels in each step, alone or in a sequence."""


def capture_obstacle(network: nn.Module) -> str:
    """Return why the training steps of a network cannot be CUDA graphs, or "" if they can.

    A graph repeats the launches of one step, whatever Python code would do in another. So only networks that are known
    to launch the same kernels each time are captured.

    Examples
    --------
    >>> from torch import nn
    >>> capture_obstacle(nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)))
    'BatchNorm3d may compute differently in each step'
    """
    parts = list(network) if isinstance(network, nn.Sequential) else [network]
    unknown = [type(part).__name__ for part in parts if not isinstance(part, CAPTURABLE)]
    if unknown:
        return f"{unknown[0]} may compute differently in each step"
    if any(isinstance(module, _DropoutNd) and module.p > 0 for module in network.modules()):
        return "its dropout would draw from another generator"
    # The warm-up passes before a capture see no images, but would enter the averages of a batch normalization.
    if next(network.buffers(), None) is not None:
        return "its buffers would change before the first step"
    return ""


class CudaGraphInferer(Inferer):
    """Run the forward and backward pass of training steps on a GPU as CUDA graphs.

    Parameters
    ----------
    network
        Network on `device`. It is captured by the constructor, and every later call is for this network.
    shape
        Shape (B, C, *patch) of every batch; a graph cannot change its shapes.
    precision
        Number format of the forward pass.
    device
        A CUDA device.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], precision: Precision, device: torch.device) -> None:
        super().__init__()
        batch = torch.zeros(shape, device=device)
        step = _InPrecision(network.train(), precision, device)
        # This runs three warm-up passes on a side stream before it captures: cuDNN picks its algorithms and the
        # allocator reserves memory then, neither of which is allowed during a capture. Weights do not change.
        self._step: Any = torch.cuda.make_graphed_callables(step, (batch,))

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return logits (B, K, *patch) float32 of inputs (B, C, *patch), or a tuple of them in several resolutions."""
        return self._step(inputs)

    def release(self) -> None:
        """Free the memory of the graphs, which is that of a whole training step; no call may follow."""
        self._step = None
        # The graphs and their autograd functions refer to each other, so only the garbage collector frees them.
        gc.collect()
        torch.cuda.empty_cache()


class _InPrecision(nn.Module):
    """A network under autocast with float32 logits.

    The cache of converted weights is off: it would be filled at capture, and replays would use outdated weights.
    """

    def __init__(self, network: nn.Module, precision: Precision, device: torch.device) -> None:
        super().__init__()
        self.network, self.precision, self.device = network, precision, device

    def forward(self, window: torch.Tensor) -> Outputs:
        enabled = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            return as_float32(self.network(window))


class CudaGraphFunction:
    """Call a function that changes tensors in place, on a GPU as a CUDA graph.

    Parameters
    ----------
    function
        Called with lists of tensors, then with numbers. It receives Python numbers or, during the capture, tensors
        without dimensions, whose values later replays change.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self._addresses: tuple[int, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._numbers: list[torch.Tensor] = []

    def __call__(self, lists: Sequence[Sequence[torch.Tensor]], *numbers: float) -> None:
        """Call the function, or replay its graph.

        The graph is captured when a call has the same tensors as the call before. That first call, without a graph,
        warms up cuBLAS, which must not allocate its workspace during a capture.

        Parameters
        ----------
        lists
            Lists of tensors, all on one device.
        numbers
            Further arguments of the function.
        """
        device = lists[0][0].device
        on_gpu = device.type == "cuda"
        addresses = tuple(tensor.data_ptr() for tensors in lists for tensor in tensors) if on_gpu else ()
        if not addresses or addresses != self._addresses:
            self._addresses, self._graph = addresses, None
            return self.function(*lists, *numbers)
        if self._graph is None:
            self._numbers = [torch.zeros((), device=device) for _ in numbers]
            self._graph = torch.cuda.CUDAGraph()
            # A thread pins and copies batches meanwhile. The default mode, "global", would make its calls fail.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self.function(*lists, *self._numbers)
        for tensor, number in zip(self._numbers, numbers, strict=True):
            tensor.fill_(number)
        self._graph.replay()
        return None
