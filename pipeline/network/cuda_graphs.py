"""What a training does at every step as CUDA graphs: one launch instead of hundreds from Python.

Small networks leave a GPU waiting for Python most of the time. A graph is recorded once for tensors that stay where
they are; its kernels are those that would have run anyway.
"""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn

from pipeline.network.precision import Precision


class GraphedInferer(Inferer):
    """The inferer of training steps on a GPU: the whole batch at once, forward and backward replayed from graphs.

    Parameters
    ----------
    network
        Is recorded at once, and is the one that every call is for.
    shape
        (B, C, *patch) of all that is fed.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], precision: Precision, device: torch.device) -> None:
        super().__init__()
        batch = torch.zeros(shape, device=device)
        step = _InPrecision(network.train(), precision, device)
        self._step: Any = torch.cuda.make_graphed_callables(step, (batch,))

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits (B, C, *S) float32 of inputs (B, channels, *S)."""
        logits: torch.Tensor = self._step(inputs)
        return logits

    def release(self) -> None:
        """Give the memory of the graphs back, which is that of a whole step; no call may follow."""
        self._step = None
        gc.collect()
        torch.cuda.empty_cache()


class _InPrecision(nn.Module):
    """A network under autocast, without the cache of converted weights, which a graph cannot have."""

    def __init__(self, network: nn.Module, precision: Precision, device: torch.device) -> None:
        super().__init__()
        self.network, self.precision, self.device = network, precision, device

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        enabled = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            logits: torch.Tensor = self.network(window).float()
            return logits


class Replayed:
    """A function of lists of tensors and of numbers that changes tensors in place: a graph while these stay in place.

    The function gets the numbers as Python's or, in the graph, as tensors without dimensions.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self._places: tuple[int, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._numbers: list[torch.Tensor] = []

    def __call__(self, lists: Sequence[Sequence[torch.Tensor]], *numbers: float) -> None:
        """Carry it out; the graph is recorded when the same tensors come a second time."""
        device = lists[0][0].device
        places = tuple(tensor.data_ptr() for tensors in lists for tensor in tensors) if device.type == "cuda" else ()
        if not places or places != self._places:
            self._places, self._graph = places, None
            return self.function(*lists, *numbers)
        if self._graph is None:
            self._numbers = [torch.zeros((), device=device) for _ in numbers]
            self._graph = torch.cuda.CUDAGraph()
            # Other threads copy batches meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self.function(*lists, *self._numbers)
        for place, number in zip(self._numbers, numbers, strict=True):
            place.fill_(number)
        self._graph.replay()
        return None
